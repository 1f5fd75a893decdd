// What `millrace doctor` takes: everything that `millrace run` takes, so that one command line means one agent.
import { expect, it } from "vitest";
import { createProgram } from "../../src/cli/program.ts";

const never = () => Promise.reject(new Error("nothing is served"));

it("takes every option of run, with the same placeholder and the same words", async () => {
  const program = await createProgram(
    {
      stopSignal: () => new AbortController().signal,
      registerLabCommands() {},
      createServers: never,
      createControllerServers: never,
    },
    false,
  );
  const optionsOf = (name: string) => {
    const command = program.commands.find((one) => one.name() === name)!;
    return new Map(
      command.options.filter(({ long }) => long !== "--config").map((one) => [one.flags, one.description]),
    );
  };
  const run = optionsOf("run");
  const doctor = optionsOf("doctor");
  expect(run.size).toBeGreaterThan(40);
  expect([...run].filter(([flags, description]) => doctor.get(flags) !== description)).toEqual([]);
  const own = [...doctor.keys()].filter((flags) => !run.has(flags));
  expect(own).toEqual(["-o, --output <FORMAT>", "--color <WHEN>", "-q, --quiet"]);
});
