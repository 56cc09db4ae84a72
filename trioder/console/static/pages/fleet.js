import { pageHeader } from "../components/page.js";

export const page = {
  title: "Fleet",
  open(view) {
    view.append(pageHeader({ title: "Fleet" }));
  },
};
