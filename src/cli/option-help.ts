// How an option reads in --help, and one that several commands have.
import { Help, Option } from "commander";
import { STRUCTURED, type Structured } from "../lib/structured.ts";

export type TextOr = "text" | Structured;

/** -o of a command whose answer is one text. */
export function textOption(): Option {
  return new Option("-o, --output <FORMAT>", "how the answer is written")
    .choices(["text", ...STRUCTURED])
    .default("text");
}

/** Nothing is said of a default that is none: "", false, no item. What stands for it is in the description, if anything does. */
export function optionDescription(option: Option): string {
  const { defaultValue, defaultValueDescription } = option;
  const isNone =
    defaultValue === "" ||
    defaultValue === false ||
    defaultValueDescription === "false" ||
    (Array.isArray(defaultValue) && defaultValue.length === 0);
  if (!isNone) return new Help().optionDescription(option);
  return new Help().optionDescription(
    Object.assign(new Option(option.flags), option, { defaultValue: undefined, defaultValueDescription: undefined }),
  );
}
