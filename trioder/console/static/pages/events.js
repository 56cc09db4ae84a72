import { pageHeader } from "../components/page.js";

export const page = {
  title: "Events",
  open(view) {
    view.append(pageHeader({ title: "Events" }));
  },
};
