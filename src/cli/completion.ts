// `completion`: scripts for shells, which ask the program itself for the words that may come next.
import { Argument, type Command } from "commander";

/** The hidden command that the scripts call. */
export const COMPLETE = "__complete";

const SCRIPTS = {
  bash: `_millrace() {
  local IFS=$'\\n'
  COMPREPLY=($("\${COMP_WORDS[0]}" ${COMPLETE} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _millrace millrace
`,
  zsh: `#compdef millrace
_millrace() {
  local -a found
  found=("\${(@f)$("\${words[1]}" ${COMPLETE} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  found=(\${found:#})
  compadd -a found
}
compdef _millrace millrace
`,
  fish: `complete -c millrace -f -a '(millrace ${COMPLETE} -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
} as const;

export function registerCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a script that completes commands and flags in a shell")
    .addArgument(new Argument("<SHELL>", "which shell").choices(Object.keys(SCRIPTS)))
    .action((shell: keyof typeof SCRIPTS) => void process.stdout.write(SCRIPTS[shell]));
  program
    .command(COMPLETE, { hidden: true })
    .argument("[WORD...]")
    .action((words: string[]) => {
      process.stdout.write(
        candidates(program, words)
          .map((one) => `${one}\n`)
          .join(""),
      );
    });
}

/** Words that may stand where the last of `words` does, which may be empty. */
export function candidates(program: Command, words: readonly string[]): string[] {
  const typed = words.at(-1) ?? "";
  let command = program;
  let choices: readonly string[] | undefined;
  for (const word of words.slice(0, -1)) {
    if (choices !== undefined) {
      choices = undefined;
      continue;
    }
    const option = command.options.find(({ long, short }) => word === long || word === short);
    if (option !== undefined && (option.required || option.optional)) choices = option.argChoices ?? [];
    else command = command.commands.find((one) => one.name() === word) ?? command;
  }
  const found =
    choices ??
    (typed.startsWith("-")
      ? command.options.filter(({ hidden }) => !hidden).map(({ long }) => long ?? "")
      : [
          ...command
            .createHelp()
            .visibleCommands(command)
            .map((one) => one.name()),
          ...command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
        ]);
  return found.filter((one) => one !== "" && one.startsWith(typed));
}
