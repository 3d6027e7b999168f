/**
 * Write `api.d.ts`: the public surface of this package, whose diff is a reviewed change.
 *
 *     npm run api
 *
 * It holds, for each entry, the declarations that the entry exports, and after those what they
 * mention and no entry exports. It is read by people and by a test, and is not published.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));

/** Read the declarations of one file: each starts at the margin, as the compiler writes it. */
function declarations(text) {
  const code = text.replace(/^[ \t]*\/\*\*?[\s\S]*?\*\/\n/gm, '').replace(/^\/\/\/.*\n/gm, '');
  const found = new Map();
  for (const part of code.split(/^(?=export |declare |interface |type |import )/m)) {
    const name =
      /^(?:export )?(?:declare )?(?:abstract )?(?:class|interface|type|function|const) (\w+)/;
    const [, declared] = name.exec(part) ?? [];
    if (declared) found.set(declared, part.replace(/^export (declare )?|^declare /, '').trimEnd());
  }
  return found;
}

/** Read what one file re-exports: pairs of a name and the file that declares it. */
function exported(text) {
  return [...text.matchAll(/^export (?:type )?\{([^}]*)\} from '\.\/(\w+)\.js';/gm)].flatMap(
    ([, names, file]) =>
      names
        .split(',')
        .flatMap((name) => name.replace('type ', '').trim() || [])
        .map((name) => [name, file]),
  );
}

/** Write the surface of the package whose declarations are in `dist`. */
export function apiText(dist) {
  const texts = new Map();
  const read = (file) => {
    if (!texts.has(file)) texts.set(file, readFileSync(join(dist, `${file}.d.ts`), 'utf8'));
    return texts.get(file);
  };
  const { exports } = JSON.parse(readFileSync(join(HERE, 'package.json'), 'utf8'));
  const entries = Object.entries(exports).filter(([, each]) => each.types);
  const told = new Map();
  const sections = entries.map(([entry, { types }]) => {
    const file = /(\w+)\.d\.ts$/.exec(types)[1];
    const text = read(file);
    const own = [...declarations(text)].filter(([name]) => isExported(text, name));
    const named = own.map(([name]) => [name, file]).concat(exported(text));
    const lines = named.sort().map(([name, from]) => {
      const declared = declarations(read(from)).get(name);
      if (!declared) throw new Error(`${entry}: no declaration of ${name} in ${from}.d.ts`);
      const again = told.get(name) === from;
      told.set(name, from);
      return again ? `// ${name}, as above` : declared;
    });
    return [`// ${join('@fractal-lba/client', entry)}`, ...lines].join('\n\n');
  });
  return `${[HEAD, ...sections, mentioned(read, told)].join('\n\n')}\n`;
}

const HEAD = '// The public surface of the TypeScript SDK; `npm run api` writes it.';

function isExported(text, name) {
  return new RegExp(`^export .*\\b(?:class|interface|type|function|const) ${name}\\b`, 'm').test(
    text,
  );
}

/** Write what is not exported by any entry, but named by what is. */
function mentioned(read, told) {
  const found = new Map();
  const open = [...told];
  for (const [name, file] of open) {
    const declared = declarations(read(file));
    const words = new Set(declared.get(name)?.match(/\b[A-Z]\w+/g));
    const imports = [
      ...read(file).matchAll(/^import (?:type )?\{([^}]*)\} from '\.\/(\w+)\.js';/gm),
    ];
    for (const word of words) {
      const from =
        imports.find(([, names]) => new RegExp(`\\b${word}\\b`).test(names))?.[2] ?? file;
      if (told.has(word) || found.has(word) || !declarations(read(from)).has(word)) continue;
      found.set(word, declarations(read(from)).get(word));
      open.push([word, from]);
    }
  }
  const lines = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, text]) => text);
  return ['// named above, exported by no entry', ...lines].join('\n\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(join(HERE, 'api.d.ts'), apiText(join(HERE, 'dist')));
}
