// The controller in an agent's process: it cannot be away without a word.
import { expect, test, vi } from "vitest";
import { controllerBeside } from "../../src/cli/run-command.ts";

test("where its options do not say where the API is, that is an error at the start", async () => {
  vi.stubEnv("KUBERNETES_SERVICE_HOST", undefined);
  const options = { kubeconfig: "", apiServer: "", stateDir: "", namespace: "kube-system", loadBalancerClass: "" };
  await expect(controllerBeside(options)).rejects.toThrow(/--kubeconfig/);
  vi.unstubAllEnvs();
});
