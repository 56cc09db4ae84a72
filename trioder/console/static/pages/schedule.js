import { pageHeader } from "../components/page.js";

export const page = {
  title: "Schedule",
  open(view) {
    view.append(pageHeader({ title: "Schedule" }));
  },
};
