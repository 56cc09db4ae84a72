/** Log-in with a token. The server answers with a cookie that scripts cannot read. */

import { ApiError, logIn } from "../core/api.js";
import { h, setText } from "../core/dom.js";
import { announceSessionChange } from "../core/session-change.js";

export const page = {
  title: "Log in",
  open(view, { query, signal }) {
    const message = h("p", { class: "form-error", role: "alert" });
    const token = h("input", { type: "password", id: "token", name: "token", autocomplete: "current-password", required: true, spellcheck: "false", class: "input mono" });
    const button = h("button", { type: "submit", class: "button button-primary" }, "Log in");
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      setText(message, "");
      try {
        await logIn(token.value.trim());
        announceSessionChange();
        // A new document: nothing of an earlier user is left in memory.
        location.assign(destination(query.get("next")));
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        setText(message, error.status === 401 ? "The headend does not accept this token: it is unknown, revoked or expired." : error.message);
        button.disabled = false;
        token.select();
      }
    };
    view.append(h("form", { class: "login", signal, on: { submit } },
      h("h1", null, "trioder"),
      h("p", { class: "muted" }, "This headend needs a token. python -m trioder.access issues one; ./scripts/run --secure prints where its tokens are."),
      h("label", { for: "token" }, "Token"), token, message, button));
    token.focus();
  },
};

/** Only paths of this console: a link to /login must not lead to another host. */
function destination(next) {
  if (!next || !next.startsWith("/") || next.startsWith("//") || next.startsWith("/login")) return "/";
  const url = new URL(next, location.origin);
  return url.origin === location.origin ? url.href : "/";
}
