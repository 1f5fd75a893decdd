// How an option reads in --help.
import { Help, Option } from "commander";

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
