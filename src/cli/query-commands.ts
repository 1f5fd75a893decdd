// `status`, `services`, `backends`, `flows`: what an agent answers, as tables or as JSON.
import { type Command, Option } from "commander";
import { type AgentChoice, addAgentOptions } from "./agent-socket.ts";

interface Choice extends AgentChoice {
  readonly output: "table" | "wide" | "json";
}

/** A command that asks one path of the API and prints the answer. */
interface Query<T, C extends Choice> {
  readonly path: string;
  query(choice: C): Readonly<Record<string, string | undefined>>;
  render(answer: T, choice: C): string;
}

export function registerQueryCommands(program: Command): void {
  answer(
    agentCommand(program, "status", "health of an agent, what it attached, how full its maps are, what is wrong"),
    async () => ({ path: "/api/v1/status", query: () => ({}), render: (await import("./render.ts")).renderStatus }),
  );
  answer<never, Choice & { namespace?: string }>(
    agentCommand(program, "services", "Services, with columns as kubectl's", true).option(
      "-n, --namespace <NAMESPACE>",
      "only those of this namespace",
    ),
    async () => ({ path: "/api/v1/services", query: () => ({}), render: (await import("./render.ts")).renderServices }),
  );
  answer<never, Choice & { service?: string }>(
    agentCommand(program, "backends", "backends behind each Service port, as they are in the kernel's maps").option(
      "--service <SERVICE>",
      "only those of NAME or NAMESPACE/NAME",
    ),
    async () => ({
      path: "/api/v1/backends",
      query: ({ service }) => ({ service }),
      render: (await import("./render.ts")).renderBackends,
    }),
  );
  answer<never, Choice & { service?: string; address?: string; limit: string }>(
    agentCommand(program, "flows", "translated connections and conversations")
      .option("--address <ADDRESS>", "only those whose client, frontend or backend has this address")
      .option("--service <SERVICE>", "only those of NAME or NAMESPACE/NAME")
      .option("--limit <N>", "at most so many, up to 10000", "1000"),
    async () => ({
      path: "/api/v1/flows",
      query: ({ service, address, limit }) => ({ service, address, limit }),
      render: (await import("./render.ts")).renderFlows,
    }),
  );
}

function agentCommand(program: Command, name: string, description: string, wide = false): Command {
  const choices = wide ? ["table", "wide", "json"] : ["table", "json"];
  const output = new Option("-o, --output <FORMAT>", choices.join(", ")).choices(choices).default("table");
  return addAgentOptions(program.command(name).description(description)).addOption(output);
}

/** `load` brings the rendering in when the command runs, not before. */
function answer<T, C extends Choice>(command: Command, load: () => Promise<Query<T, C>>): void {
  command.action(async (choice: C) => {
    const [{ askAgent }, { chooseSocket }, { path, query, render }] = await Promise.all([
      import("./api-client.ts"),
      import("./agent-socket.ts"),
      load(),
    ]);
    const given = Object.entries(query(choice)).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const search = given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
    const reply = await askAgent<T>(chooseSocket(choice), `${path}${search}`);
    process.stdout.write(render(reply, choice));
  });
}
