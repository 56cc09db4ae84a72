import { pageHeader } from "../components/page.js";

export const page = {
  title: "Asset",
  open(view) {
    view.append(pageHeader({ title: "Asset" }));
  },
};
