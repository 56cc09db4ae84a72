import { pageHeader } from "../components/page.js";

export const page = {
  title: "Site",
  open(view) {
    view.append(pageHeader({ title: "Site" }));
  },
};
