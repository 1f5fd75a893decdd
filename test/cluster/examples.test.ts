// The examples as they are, IPv4 only, with pods on a bridge.
import { describeExamples } from "./examples/describe-examples.ts";

describeExamples("the examples on a cluster of Kubernetes' own parts", {
  name: "examples",
  cni: "bridge",
  dualStack: false,
});
