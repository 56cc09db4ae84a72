import { pageHeader } from "../components/page.js";

export const page = {
  title: "API",
  open(view) {
    view.append(pageHeader({ title: "API" }));
  },
};
