// `bypass`: turns all translation of a node off and on in the kernel, from the pinned map alone: no agent, source or API is asked.
import { Argument, type Command } from "commander";
import { Failure } from "../lib/errors.ts";
import { isStructured, structured } from "../lib/structured.ts";
import { type TextOr, textOption } from "./option-help.ts";
import { SETTINGS } from "./settings.ts";

interface Choice {
  readonly pinDir?: string;
  readonly name?: string;
  readonly node?: string;
  readonly output: TextOr;
}

export function registerBypassCommand(program: Command): void {
  const { name, placeholder, help, defaultText } = SETTINGS.find((setting) => setting.name === "pin-dir")!;
  program
    .command("bypass")
    .description("turn all translation of this node off (on) and on again (off), or say how it is; needs no agent")
    .addArgument(new Argument("[STATE]", "what bypass is to be").choices(["on", "off"]))
    .addOption(textOption())
    .option(`--${name} <${placeholder}>`, `${help} (default: ${defaultText})`)
    .option("--name <LAB>", "of a node of this lab")
    .option("--node <NODE>", "which node of the lab (default: its first)")
    .action(async (state: "on" | "off" | undefined, choice: Choice) => {
      const pinDir = await pinDirOf(choice);
      const { requireRoot } = await import("../lib/require-root.ts");
      requireRoot(state === undefined ? "read the settings" : `turn bypass ${state}`);
      const { readBypass, setBypass } = await import("../datapath/bypass.ts");
      const before = readBypass(pinDir);
      const isOn = state === undefined ? before : state === "on";
      if (isOn !== before) setBypass(pinDir, isOn);
      const answer = { bypass: isOn, changed: isOn !== before };
      process.stdout.write(isStructured(choice.output) ? await structured(answer, choice.output) : say(isOn));
    });
}

function say(isOn: boolean): string {
  return isOn
    ? "bypass is on: nothing is translated, no Service is served by this node; end it with 'millrace bypass off'\n"
    : "bypass is off: Services are served\n";
}

async function pinDirOf({ pinDir, name, node }: Choice): Promise<string> {
  if (name === undefined) {
    if (node !== undefined) throw new Failure("usage", "--node", "could not use --node: it belongs to --name LAB");
    const { readPinDir } = await import("./agent-options.ts");
    return readPinDir(pinDir, process.env);
  }
  if (pinDir !== undefined) throw new Failure("usage", "--pin-dir", "could not use --pin-dir: it excludes --name LAB");
  const { chooseLabPinDir } = await import("./agent-socket.ts");
  return chooseLabPinDir(name, node);
}
