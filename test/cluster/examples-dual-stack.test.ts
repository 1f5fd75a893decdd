// The examples with Services of both families, with pods behind point-to-point routes.
import { describeExamples } from "./examples/describe-examples.ts";

describeExamples("the examples in both families on a cluster of Kubernetes' own parts", {
  name: "examples-dual",
  cni: "ptp",
  dualStack: true,
});
