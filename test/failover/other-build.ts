// A second version of Millrace for upgrades, with another layout of its maps: built when it is first wanted.
import { buildVariant, newFlowField, type Variant } from "../lab/traffic/variants.ts";

export class OtherBuild implements AsyncDisposable {
  #variant: Promise<Variant> | undefined;
  /** The build that agents are started from now; "" for this one. */
  dist = "";

  /** Goes over to the build that is not in use. */
  async change(): Promise<void> {
    this.#variant ??= buildVariant(newFlowField);
    const { dist } = await this.#variant;
    this.dist = this.dist === "" ? dist : "";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const variant = await this.#variant?.catch(() => undefined);
    variant?.remove();
  }
}
