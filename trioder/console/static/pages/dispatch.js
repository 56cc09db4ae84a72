import { pageHeader } from "../components/page.js";

export const page = {
  title: "Dispatch",
  open(view) {
    view.append(pageHeader({ title: "Dispatch" }));
  },
};
