import { pageHeader } from "../components/page.js";

export const page = {
  title: "Alarms",
  open(view) {
    view.append(pageHeader({ title: "Alarms" }));
  },
};
