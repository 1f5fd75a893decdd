// What the operator is told about the API itself.
import { describe, expect, it } from "vitest";
import { apiNotices } from "../../src/kube/api-notices.ts";

const NOW = Date.UTC(2026, 0, 1);
const seconds = (fromNowMs: number): number => (NOW + fromNowMs) / 1000;

describe("notices about the API", () => {
  it("say one thing once, however many resources it befalls", () => {
    const away = { reason: "unreachable", message: "could not reach https://10.0.0.1:6443" } as const;
    const held = {
      reason: "list-held",
      message: "a full list of services would take away 99 of 100 frontends",
    } as const;
    expect(apiNotices([away, away, held, away], undefined, NOW)).toEqual([
      { object: "Kubernetes API", file: "", field: "", severity: "error", ...away },
      { object: "Kubernetes API", file: "", field: "", severity: "warning", ...held },
    ]);
  });

  it.each([
    ["nothing without a certificate", undefined, []],
    ["nothing of one that lasts", seconds(3_600_001), []],
    [
      "when one is about to expire",
      seconds(3_599_000),
      ["warning: our client certificate expires at 2026-01-01T00:59:59.000Z: renew it"],
    ],
    [
      "when one has expired",
      seconds(0),
      ["error: our client certificate expired at 2026-01-01T00:00:00.000Z: renew it; it is read again by itself"],
    ],
  ])("say %s", (_, expiresAt, expected) => {
    expect(apiNotices([], expiresAt, NOW).map(({ severity, message }) => `${severity}: ${message}`)).toEqual(expected);
  });
});
