// The products, apart from how they are opened: the page needs no more.
/** What is measured, and where: on a real cluster, or in the lab. */
export const PRODUCTS = ["millrace", "millrace-lab", "metallb"] as const;
export type Product = (typeof PRODUCTS)[number];
