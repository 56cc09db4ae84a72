/** Who uses this console, and what that role may do. The token itself is in a cookie that scripts cannot read. */

import { ApiError, whoAmI } from "./api.js";
import { setHeadendUrl } from "./curl.js";

const RANK = { viewer: 0, operator: 1, admin: 2 };

class Session {
  /** @type {{name: string, kind: string, role: string, tenant: string, sites: string[] | null, expires_at: string | null} | null} */
  user = null;

  /** @returns {Promise<"known" | "login" | "away">} `login`: a token is needed; `away`: the headend cannot be reached */
  async load() {
    try {
      this.user = await whoAmI();
      setHeadendUrl(this.user.headend_url);
      return "known";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status !== 401) return "away";
      this.user = null;
      return "login";
    }
  }

  /** @param {"viewer" | "operator" | "admin"} role */
  may(role) {
    return this.user !== null && RANK[this.user.role] >= RANK[role];
  }

  /** Whether the headend is open to everybody on this machine: there is nobody to log out. */
  get open() {
    return this.user?.kind === "open";
  }
}

export const session = new Session();
