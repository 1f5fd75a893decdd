import { expect, it } from "vitest";
import { decide } from "../../src/decide/decide.ts";
import { kubeProxyNotices } from "../../src/decide/kube-proxy-notices.ts";
import { believed, type Given, inputs } from "./inputs.ts";

it.each([
  ["nothing of it", { running: "", rules: [] }, []],
  [
    "it runs",
    { running: "process 4711", rules: ["iptables", "ip6tables"] },
    [["kube-proxy-running", /\(process 4711\), and has rules here \(iptables, ip6tables\): .*cleanup --kube-proxy$/]],
  ],
  [
    "it runs and has none yet",
    { running: "process 1", rules: [] },
    [["kube-proxy-running", /on this node \(process 1\): /]],
  ],
  [
    "it left rules",
    { running: "", rules: ["ipvs"] },
    [["kube-proxy-rules", /on this node \(ipvs\).*cleanup --kube-proxy/]],
  ],
] as const)("of kube-proxy is told: %s", (_name, facts, expected) => {
  expect(kubeProxyNotices(facts)).toMatchObject(
    expected.map(([reason, message]) => ({ reason, severity: "warning", message: expect.stringMatching(message) })),
  );
});

it("a decision tells it, and only that of what it is for", () => {
  const reasons = (otherProxy: NonNullable<Given["otherProxy"]>) =>
    decide(inputs({ otherProxy }), believed()).notices.map(({ reason }) => reason);
  expect(reasons({})).not.toContain("kube-proxy-running");
  expect(reasons({ running: "process 7", rules: ["nftables"] })).toContain("kube-proxy-running");
  expect(reasons({ rules: ["nftables"] })).toContain("kube-proxy-rules");
});
