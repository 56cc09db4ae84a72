import { pageHeader } from "../components/page.js";

export const page = {
  title: "Assets",
  open(view) {
    view.append(pageHeader({ title: "Assets" }));
  },
};
