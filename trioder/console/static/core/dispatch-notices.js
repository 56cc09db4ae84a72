/** What the page of a dispatch says once about how it was commanded from this tab. */

const notices = new Map();

/**
 * @param {string} dispatchId
 * @param {{text: string, material: boolean, previewAt: string}} notice  how it differs from its preview
 */
export function keepNotice(dispatchId, notice) {
  notices.clear();
  notices.set(dispatchId, notice);
}

/** @param {string} dispatchId @returns {{text: string, material: boolean, previewAt: string} | undefined} */
export const noticeOf = (dispatchId) => notices.get(dispatchId);
