// How each product is put where it is measured.
import { TestLab } from "../lab/traffic/test-lab.ts";
import { clusterSite } from "./cluster-site.ts";
import { labSite } from "./lab-site.ts";
import { buildMetallb } from "./metallb.ts";
import { metallbProduct } from "./metallb-site.ts";
import { millraceProduct } from "./millrace-site.ts";
import type { Product } from "./product-names.ts";
import type { Site } from "./site.ts";

/** Of clusters and labs; one at a time. */
const NAME = "failover";

type Progress = (text: string) => void;

const OPENERS: Readonly<Record<Product, (progress: Progress) => Promise<Site>>> = {
  async millrace(progress) {
    progress("a cluster with Millrace");
    return clusterSite(millraceProduct(NAME));
  },
  async "millrace-lab"(progress) {
    progress("a lab");
    return labSite(new TestLab(NAME));
  },
  async metallb(progress) {
    await buildMetallb(progress);
    progress("a cluster with MetalLB");
    return clusterSite(metallbProduct(NAME));
  },
};

export function openSite(product: Product, progress: Progress): Promise<Site> {
  return OPENERS[product](progress);
}
