import { pageHeader } from "../components/page.js";

export const page = {
  title: "Alarm",
  open(view) {
    view.append(pageHeader({ title: "Alarm" }));
  },
};
