import { pageHeader } from "../components/page.js";

export const page = {
  title: "Schedules",
  open(view) {
    view.append(pageHeader({ title: "Schedules" }));
  },
};
