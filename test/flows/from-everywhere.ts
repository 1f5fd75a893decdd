// One line of a table of flows for each client: what one finds outside, and what pods and processes of this node find.
import { type FlowCase, HOST, HOST_6, OUTSIDE, OUTSIDE_6, POD, POD_6, type Served, type Verdict } from "./flow-case.ts";

export interface Line {
  readonly field: string;
  /** What "an outside client", "a pod" or "a process" finds. */
  readonly finds: string;
  readonly given: FlowCase["given"];
  readonly to: FlowCase["to"];
  readonly outside: Served | Verdict;
  readonly inside: Served | Verdict;
}

/** A row for each client. */
export function fromEverywhere({ field, finds, given, to, outside, inside }: Line): FlowCase[] {
  const six = to.address.includes(":");
  const expected = (what: Served | Verdict): FlowCase["expect"] =>
    typeof what === "string" ? { verdict: what } : what;
  const row = (who: string, from: FlowCase["from"], what: Served | Verdict): FlowCase => ({
    name: `${who} finds ${finds}`,
    field,
    given,
    from,
    to,
    expect: expected(what),
  });
  return [
    row("an outside client", six ? OUTSIDE_6 : OUTSIDE, outside),
    row("a pod", six ? POD_6 : POD, inside),
    row("a process", six ? HOST_6 : HOST, inside),
  ];
}

/** Both of ENDPOINTS, as outside clients and as others reach them. */
export const split = (port: number): Served => ({ kept: [`10.244.1.2:${port}`], translated: [`10.244.2.2:${port}`] });
export const whole = (port: number): Served => ({ kept: [`10.244.1.2:${port}`, `10.244.2.2:${port}`] });
/** Both of ENDPOINTS_6. */
export const split6 = (port: number): Served => ({
  kept: [`[fd00:10:244:1::2]:${port}`],
  translated: [`[fd00:10:244:2::2]:${port}`],
});
export const whole6 = (port: number): Served => ({
  kept: [`[fd00:10:244:1::2]:${port}`, `[fd00:10:244:2::2]:${port}`],
});
