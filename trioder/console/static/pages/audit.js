import { pageHeader } from "../components/page.js";

export const page = {
  title: "Audit",
  open(view) {
    view.append(pageHeader({ title: "Audit" }));
  },
};
