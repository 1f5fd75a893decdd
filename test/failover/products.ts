// What is measured, and where.
import { TestLab } from "../lab/traffic/test-lab.ts";
import { buildVariant, newFlowField } from "../lab/traffic/variants.ts";
import { clusterSite } from "./cluster-site.ts";
import { labSite } from "./lab-site.ts";
import { buildMetallb } from "./metallb.ts";
import { metallbProduct } from "./metallb-site.ts";
import type { Site } from "./site.ts";

export const PRODUCTS = ["millrace-lab", "metallb"] as const;
export type Product = (typeof PRODUCTS)[number];

type Progress = (text: string) => void;

const OPENERS: Readonly<Record<Product, (progress: Progress) => Promise<Site>>> = {
  async "millrace-lab"(progress) {
    progress("another build");
    const variant = await buildVariant(newFlowField);
    const site = await labSite(new TestLab("failover"), { otherDist: variant.dist });
    return {
      ...site,
      async [Symbol.asyncDispose]() {
        await site[Symbol.asyncDispose]();
        variant.remove();
      },
    };
  },
  async metallb(progress) {
    await buildMetallb(progress);
    progress("a cluster with MetalLB");
    return clusterSite(metallbProduct("failover"));
  },
};

export function openSite(product: Product, progress: Progress): Promise<Site> {
  return OPENERS[product](progress);
}
