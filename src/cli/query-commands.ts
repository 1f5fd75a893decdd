// `status`, `services`, `backends`, `flows`, `drops`: what an agent answers, with kubectl's flags.
import { type Command, Option } from "commander";
import type { AgentStatus } from "../agent/view.ts";
import { Failure } from "../lib/errors.ts";
import { isStructured, structured } from "../lib/structured.ts";
import { type AgentChoice, addAgentOptions } from "./agent-socket.ts";
import { FORMATS, type Format } from "./output.ts";
import type { ListQuery } from "./queries.ts";

interface Choice extends AgentChoice {
  readonly output: Format;
  readonly watch?: boolean;
  readonly color: string;
}

interface ListChoice extends Choice {
  readonly namespace?: string;
  readonly allNamespaces?: boolean;
  readonly service?: string;
  readonly selector?: string;
}

interface FlowChoice extends ListChoice {
  readonly address?: string;
  readonly client?: string;
  readonly backend?: string;
  readonly port?: string;
  readonly state?: string;
  readonly protocol?: string;
  readonly path?: string;
  readonly pod?: string;
  readonly backendNode?: string;
  readonly limit: string;
}

type Parameters_ = Readonly<Record<string, string | undefined>>;

export function registerQueryCommands(program: Command): void {
  agentCommand(program, "status", "health of an agent, what is wrong, what it attached, how full its maps are")
    .option("--check", "exit status 1 when a notice is an error, or the agent is not healthy")
    .action(runStatus);
  listCommand(program, "services", "Services, how many of their endpoints are ready, and why not").action(
    list(
      async ({ namespace }: ListChoice) => (await import("./queries.ts")).servicesQuery(namespace !== undefined),
      () => ({}),
    ),
  );
  listCommand(program, "backends", "endpoints behind each Service port, and why one is no backend", true).action(
    list(
      async () => (await import("./queries.ts")).BACKENDS,
      () => ({ all: "true" }),
    ),
  );
  listCommand(program, "flows", "translated connections and conversations, the newest first", true)
    .option("--address <ADDRESS>", "only those whose client, frontend or backend has it; a network too, as 10.0.0.0/8")
    .option("--client <ADDRESS>", "only those of this client or network")
    .option("--backend <ADDRESS>", "only those to this backend or network")
    .option("--port <PORT>", "only those whose client, frontend or backend has this port")
    .option("--pod <POD>", "only those of NAME or NAMESPACE/NAME, where the source of objects tells of pods")
    .option("--backend-node <NODE>", "only those whose backend is on this Node")
    .option("--state <STATE>", "only those in this state, as established or syn-sent")
    .option("--protocol <PROTOCOL>", "tcp, udp or sctp")
    .option("--path <PATH>", "packet: translated packet by packet; socket: at the socket, once")
    .option("--limit <N>", "at most so many, up to 10000; 0: all", "1000")
    .addHelpText(
      "after",
      "\nA socket is not watched: its row stays when it is closed, until the place is needed. Its client is its cookie.",
    )
    .action(
      list(
        async () => (await import("./queries.ts")).FLOWS,
        (choice: FlowChoice) => ({
          address: choice.address,
          client: choice.client,
          backend: choice.backend,
          port: choice.port,
          state: choice.state,
          protocol: choice.protocol,
          path: choice.path,
          pod: choice.pod,
          "backend-node": choice.backendNode,
          limit: choice.limit,
        }),
      ),
    );
  listCommand(program, "drops", "what was refused or dropped, for which Service, at which hook and why", true)
    .addHelpText("after", "\nCounts are of all CPUs since the maps were made; with -w also how many come in a second.")
    .action(
      list(
        async () => (await import("./queries.ts")).DROPS,
        () => ({}),
      ),
    );
}

function agentCommand(program: Command, name: string, description: string): Command {
  return addAgentOptions(program.command(name).description(description))
    .addOption(new Option("-o, --output <FORMAT>", "how the answer is written").choices(FORMATS).default("table"))
    .option("-w, --watch", "go on, and show what changes")
    .addOption(
      new Option("--color <WHEN>", "auto: on a terminal, unless NO_COLOR is set")
        .choices(["auto", "always", "never"])
        .default("auto"),
    );
}

function listCommand(program: Command, name: string, description: string, ofServices = false): Command {
  const command = agentCommand(program, name, description)
    .argument("[SERVICE...]", "only of these: NAME, NAMESPACE/NAME or svc/NAME")
    .option("-n, --namespace <NAMESPACE>", "only of Services of this namespace; that of a NAME")
    .option("-A, --all-namespaces", "of all namespaces, which is the default")
    .option("-l, --selector <LABELS>", "only of Services with such labels, as app=web,tier!=db,env in (a,b),!old");
  return ofServices ? command.option("--service <SERVICE>", "the same as SERVICE") : command;
}

/** "svc/web", "shop/web" and "web" as "namespace/name". @throws Failure "usage" */
function serviceKey(text: string, namespace: string | undefined): string {
  const name = text.replace(/^(?:svc|services?)\/(?=[^/]+(?:\/[^/]+)?$)/, "");
  if (!name.includes("/")) return `${namespace ?? "default"}/${name}`;
  if (namespace !== undefined && !name.startsWith(`${namespace}/`))
    throw new Failure("usage", text, `could not use ${text}: it is not of --namespace ${namespace}`);
  return name;
}

function commonParameters(names: readonly string[], choice: ListChoice): Parameters_ {
  const { namespace, allNamespaces, service, selector } = choice;
  if (namespace !== undefined && allNamespaces === true)
    throw new Failure("usage", "-A", "could not use --all-namespaces: it excludes --namespace");
  const wanted = [...names, ...(service === undefined ? [] : [service])];
  if (wanted.length === 0) return { namespace, selector };
  return { service: wanted.map((name) => serviceKey(name, namespace)).join(","), selector };
}

/** The action of a command that asks for records; `load` brings the columns in when it runs, not before. */
function list<T, C extends ListChoice>(
  load: (choice: C) => Promise<ListQuery<T>>,
  own: (choice: C) => Parameters_,
): (names: string[], choice: C) => Promise<void> {
  return async (names, choice) => {
    const [{ askList }, { chooseSocket, nobodyThere }, output, query] = await Promise.all([
      import("./api-client.ts"),
      import("./agent-socket.ts"),
      import("./output.ts"),
      load(choice),
    ]);
    const parameters = { ...commonParameters(names, choice), ...own(choice) };
    const given = Object.entries(parameters).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const path = given.length === 0 ? query.path : `${query.path}?${new URLSearchParams(given)}`;
    const socket = chooseSocket(choice);
    const ask = () => askList<T>(socket, path, nobodyThere(choice));
    const style = { wide: choice.output === "wide", colour: output.showsColour(choice.color) };
    if (choice.watch === true) return output.watchList(query, async () => (await ask()).records, choice.output, style);
    const { records, matched } = await ask();
    const isTable = choice.output === "table" || choice.output === "wide";
    if (isTable && records.length === 0) process.stderr.write("nothing found\n");
    else process.stdout.write(await output.listText(query, records, choice.output, style.colour));
    if (isTable && matched > records.length)
      process.stderr.write(`${records.length} of ${matched}; --limit 0 shows all\n`);
  };
}

async function runStatus(choice: Choice & { readonly check?: boolean }): Promise<void> {
  const [{ askAgent }, { chooseSocket, nobodyThere }, output, { isInTrouble, statusText }] = await Promise.all([
    import("./api-client.ts"),
    import("./agent-socket.ts"),
    import("./output.ts"),
    import("./status-text.ts"),
  ]);
  const socket = chooseSocket(choice);
  const colour = output.showsColour(choice.color);
  const answer = async (): Promise<string> => {
    const status = await askAgent<AgentStatus>(socket, "/api/v1/status", nobodyThere(choice));
    if (choice.check === true) process.exitCode = isInTrouble(status) ? 1 : 0;
    if (isStructured(choice.output)) return structured(status, choice.output);
    if (choice.output === "name") return `node/${status.node}\n`;
    // What is searched or compared has a message in one line.
    const width = process.stdout.isTTY ? Math.min(process.stdout.columns, 120) : Number.POSITIVE_INFINITY;
    return statusText(status, { colour, width });
  };
  if (choice.watch === true) await output.watchText(answer);
  process.stdout.write(await answer());
}
