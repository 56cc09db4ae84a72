// Dialogs on the browser's own <dialog>, which keeps the focus inside and returns it; short notices; the clipboard.

const NOTICE_MS = 6000;
const ERROR_MS = 15_000;
let dialogs = 0;

/**
 * @typedef {{label: string, value: unknown, kind?: "primary"|"danger"|"plain", autofocus?: boolean}} Action
 * @typedef {{element: HTMLDialogElement, buttons: HTMLButtonElement[], closed: Promise<unknown>,
 *   close(value?: unknown): void}} Dialog
 */

/**
 * Opens a modal dialog. Escape closes it with `undefined`, as does the abort of `signal`.
 * @param {{title: string, body: Node|string, actions: Action[], danger?: boolean, signal?: AbortSignal}} options
 * @returns {Dialog} `closed` resolves to the value of the action that was chosen
 */
export function openDialog({ title, body, actions, danger = false, signal }) {
  dialogs += 1;
  const element = document.createElement("dialog");
  element.className = danger ? "dialog dialog-danger" : "dialog";
  element.setAttribute("aria-labelledby", `dialog-${dialogs}-title`);
  element.setAttribute("aria-describedby", `dialog-${dialogs}-body`);
  const heading = element.appendChild(document.createElement("h2"));
  heading.className = "dialog-title";
  heading.id = `dialog-${dialogs}-title`;
  heading.textContent = title;
  const content = element.appendChild(document.createElement("div"));
  content.className = "dialog-body";
  content.id = `dialog-${dialogs}-body`;
  content.append(body);
  const row = element.appendChild(document.createElement("div"));
  row.className = "dialog-actions";
  const buttons = actions.map((action) => {
    const button = row.appendChild(document.createElement("button"));
    button.type = "button";
    button.className = `dialog-button dialog-button-${action.kind ?? "plain"}`;
    button.textContent = action.label;
    button.autofocus = action.autofocus ?? false;
    button.addEventListener("click", () => close(action.value));
    return button;
  });

  const returnTo = document.activeElement;
  const ended = new AbortController();
  let result;
  const close = (value) => {
    result = value;
    element.close();
  };
  const closed = new Promise((resolve) => {
    const finish = () => {
      ended.abort();
      const notices = element.querySelector(".toasts");
      if (notices) {
        document.body.append(notices);
        notices.showPopover?.();
      }
      element.remove();
      if (returnTo instanceof HTMLElement && returnTo.isConnected) returnTo.focus({ preventScroll: true });
      resolve(result);
    };
    element.addEventListener("close", finish, { once: true });
  });
  signal?.addEventListener("abort", () => close(undefined), { signal: ended.signal });
  document.body.append(element);
  element.showModal();
  if (signal?.aborted) close(undefined);
  return { element, buttons, closed, close };
}

/**
 * Asks before something is done.
 * @param {{title: string, body: Node|string, confirmLabel: string, cancelLabel?: string, danger?: boolean,
 *   requireText?: string, signal?: AbortSignal}} options with `requireText` the button is enabled when it was typed
 * @returns {Promise<boolean>} false for cancel, Escape and an aborted `signal`
 */
export async function confirmDialog(options) {
  const { title, body, confirmLabel, cancelLabel = "Cancel", danger = false, requireText, signal } = options;
  const content = document.createElement("div");
  content.append(body);
  const input = requireText === undefined ? null : content.appendChild(createConfirmation(requireText));
  const dialog = openDialog({
    title,
    body: content,
    danger,
    signal,
    actions: [
      // What cannot be undone does not happen by a second press of Enter.
      { label: cancelLabel, value: false, autofocus: danger && !input },
      { label: confirmLabel, value: true, kind: danger ? "danger" : "primary", autofocus: !danger && !input },
    ],
  });
  if (input) {
    const field = input.querySelector("input");
    const [, confirm] = dialog.buttons;
    const matches = () => field.value.trim() === requireText.trim();
    confirm.disabled = true;
    field.addEventListener("input", () => {
      confirm.disabled = !matches();
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && matches()) dialog.close(true);
    });
    field.focus();
  }
  return (await dialog.closed) === true;
}

function createConfirmation(requireText) {
  const label = document.createElement("label");
  label.className = "dialog-confirmation";
  const expected = document.createElement("strong");
  expected.textContent = requireText;
  const input = document.createElement("input");
  input.type = "text";
  input.autocomplete = "off";
  input.spellcheck = false;
  const text = document.createElement("span");
  text.append("Type ", expected, " to confirm");
  label.append(text, input);
  return label;
}

/**
 * Shows a short notice, and has screen readers say it.
 * @param {string} message
 * @param {{kind?: "info"|"ok"|"warning"|"error"}} [options] an error stays for 15 s, others for 6 s; not while the
 *   pointer is on it
 */
export function toast(message, { kind = "info" } = {}) {
  const region = noticeRegion();
  const notice = document.createElement("div");
  notice.className = `toast toast-${kind}`;
  const text = notice.appendChild(document.createElement("span"));
  text.className = "toast-text";
  const close = notice.appendChild(document.createElement("button"));
  close.type = "button";
  close.className = "toast-close";
  close.setAttribute("aria-label", "Close the notice");
  close.textContent = "\u00d7";
  let timer = 0;
  const remove = () => {
    clearTimeout(timer);
    notice.remove();
    if (region.childElementCount === 0) region.hidePopover?.();
  };
  const start = () => {
    timer = setTimeout(remove, kind === "error" ? ERROR_MS : NOTICE_MS);
  };
  close.addEventListener("click", remove);
  notice.addEventListener("pointerenter", () => clearTimeout(timer));
  notice.addEventListener("pointerleave", start);
  region.append(notice);
  // Above a dialog that was opened since: the newest of the top layer is on top.
  region.hidePopover?.();
  region.showPopover?.();
  // A live region says what changes in it after it is there.
  text.textContent = message;
  start();
}

function noticeRegion() {
  let region = document.querySelector(".toasts");
  if (!region) {
    region = document.createElement("div");
    region.className = "toasts";
    region.setAttribute("role", "status");
    region.setAttribute("aria-live", "polite");
    region.popover = "manual";
  }
  // A modal dialog makes everything outside of it inert: the notices' buttons would not work.
  const dialogsOpen = document.querySelectorAll("dialog[open]");
  const parent = dialogsOpen.length > 0 ? dialogsOpen[dialogsOpen.length - 1] : document.body;
  if (region.parentElement !== parent) parent.append(region);
  return region;
}

/**
 * Copies a text to the clipboard, and says whether that succeeded.
 * @param {string} text
 * @param {{message?: string}} [options] the notice
 * @returns {Promise<boolean>}
 */
export async function copyText(text, { message = "Copied" } = {}) {
  const copied = await writeClipboard(text);
  toast(copied ? message : "The browser does not permit copying", { kind: copied ? "ok" : "error" });
  return copied;
}

async function writeClipboard(text) {
  try {
    // Only https and localhost have navigator.clipboard.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    const focused = document.activeElement;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    if (focused instanceof HTMLElement) focused.focus();
    return copied;
  }
}
