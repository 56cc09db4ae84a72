import { pageHeader } from "../components/page.js";

export const page = {
  title: "Agents",
  open(view) {
    view.append(pageHeader({ title: "Agents" }));
  },
};
