// The installer's clock, for those who may not know where it is from.
export { systemClock } from "../kube/clock.ts";
