#!/usr/bin/env python3
"""Makes `agent.names` anew from what an agent runs. Needed seldom: when agents have grown (`cargo xtask bench mesh`).

    cargo rustc --release -p chancery --bin chancery -- -C strip=none -C link-arg=-Wl,-Map=/tmp/chancery.map
    valgrind --tool=callgrind --dump-instr=yes --callgrind-out-file=/tmp/run target/release/chancery mesh agent ...
    crates/cli/link/order.py chancery /tmp/chancery.map /tmp/run...

While the agent runs, let it do all that agents do: get a certificate, serve Envoy's secrets and the Workload API, end.
"""

import bisect, collections, pathlib, re, sys

# So many bytes that are not run may lie between those that are, before another line is worth while.
LINE = 2000


def executed(path, program):
    """The addresses of the instructions of `program` that were executed, from callgrind's file."""
    found, names, address, ours = set(), {}, 0, False
    for line in open(path):
        if name := re.match(r"c?ob=\((\d+)\)(?: (.*))?", line):
            names.setdefault(name[1], (name[2] or "").strip())
            if not line.startswith("c"):
                ours = names[name[1]].endswith("/" + program)
        elif line[0] in "0+-*":
            word = line.split()[0]
            if word[0] in "+-":
                address += int(word, 0)
            elif word[0] == "0":
                address = int(word, 16)
            if ours:
                found.add(address)
    return found


def sections(path):
    """The sections with code: address, size, name, member of a library."""
    form = re.compile(r"\s*([0-9a-f]+)\s+[0-9a-f]+\s+([0-9a-f]+)\s+\d+\s+(\S+):\(\.text\.?([^)]*)\)")
    found = (form.match(line) for line in open(path))
    return sorted((int(f[1], 16), int(f[2], 16), f[4], f[3].split("/")[-1]) for f in found if f and int(f[2], 16))


def parts(name):
    """The parts of a section's name: any number of the first ones, with `*`, is a pattern."""
    begin = "unlikely." if name.startswith("unlikely.") else ""
    name = name.removeprefix(begin)
    if name.startswith("_ZN"):
        words, rest = [], re.sub(r"17h[0-9a-f]{16}E", "", name[3:])
        while number := re.match(r"\d+", rest):
            end = number.end() + int(number[0])
            word, rest = rest[number.end() : end], rest[end:]
            # The length of an impl's name is another for each of its types.
            if not words and word.startswith("_$LT$"):
                words = re.split(r"(?<=\.\.)|(?<=\$LT\$)|(?<=\$u20\$)", word)
                words[0] = "_ZN*" + words[0]
            else:
                words.append(("" if words else "_ZN") + number[0] + word)
    elif found := name.startswith("_R") and re.search(r"Cs[0-9A-Za-z]+_(\d.*)", name):
        words, rest = ["_R*_"], re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", found[1])
        while number := re.match(r"\d+", rest):
            end = number.end() + int(number[0])
            words.append(rest[:end])
            rest = rest[end:]
        words.append(rest)
    else:
        name = re.sub(r"\.llvm\.\d+", "", re.sub(r"aws_lc_\d+_\d+_\d+_", "aws_lc_*_", name))
        words = re.split(r"(?<=[a-zA-Z0-9]_)(?=[A-Za-z0-9])", name)
    return [begin + words[0], *filter(None, words[1:])]


class Node:
    """What begins with the same parts."""

    def __init__(self):
        self.below, self.all, self.run, self.ends = collections.defaultdict(Node), 0, 0, False

    def lines(self, prefix=""):
        """The cheapest patterns that match all that is run: cost, and each pattern with its bytes."""
        if not self.run:
            return 0, []
        whole = LINE + self.all - self.run, [(prefix + "*", self.all, self.run)]
        if self.ends:
            return whole
        each = [node.lines(prefix + part) for part, node in self.below.items()]
        apart = sum(cost for cost, _ in each), [line for _, lines in each for line in lines]
        return apart if not prefix or apart[0] < whole[0] else whole


def main():
    program, link_map, *runs = sys.argv[1:]
    known = sections(link_map)
    starts, run = [section[0] for section in known], set()
    for address in set().union(*(executed(path, program) for path in runs)):
        index = bisect.bisect_right(starts, address) - 1
        if index >= 0 and address < known[index][0] + known[index][1]:
            run.add(index)
    tree, objects = Node(), set()
    for index, (_, size, name, member) in enumerate(known):
        if not name:
            if index in run and (found := re.search(r"\.rlib\(\w+?-(.*)\)", member)):
                objects.add("object " + found[1])
            continue
        if "jemalloc" in member:
            continue
        path, node = parts(name), tree
        for part in [None, *path]:
            node = node.below[part] if part else node
            node.all += size
            node.run += size if index in run else 0
        node.ends |= index in run
    rare = lambda line: line[1] - line[2] > max(8192, 2 * line[2])
    lines = tree.lines()[1]
    often = sorted(name for name, all, run in filter(lambda line: not rare(line), lines))
    seldom = [name for name, all, run in sorted(filter(rare, lines), key=lambda line: (line[1] - line[2], line[0]))]
    file = pathlib.Path(__file__).with_name("agent.names")
    head = file.read_text().split("\n\n")[0]
    note = "# Names of which the agent runs a few among many: after all others, the rarest last."
    often += ["library libtikv_jemalloc_sys", *sorted(objects)]
    file.write_text("\n".join([head, "", *often, "", note, *seldom, ""]))


main()
