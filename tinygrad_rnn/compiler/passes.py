"""The passes: each goes over a listing once, makes it shorter or faster, and says what it did in one sentence.

A pass may leave a buffer unwritten that nobody in the program reads; it then adds it to `listing.elided`, and whoever looks at
it later has it recomputed. Those in EXACT change no bit of any result; the others add in another order, let a product take
another path, or lose the sign of a zero, and agree to rounding."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import groupby
from math import prod

from .instruction import ITEM_SIZES, Buffer, Instruction, Place, Region, conflict
from .listing import Access, Listing, Uses, whole

# indices into places and n of the matmul kernel
Y, DY, LEFT, RIGHT, BIAS, PACKED, BASE, SCALED, TIMES = range(9)
BATCH, M, N, K, LEFT_BATCH, LEFT_ROW, LEFT_COLUMN, RIGHT_BATCH, RIGHT_ROW, RIGHT_COLUMN, BASE_ROW, ACTIVATION = range(12)
# and of the rnn_cell kernel
CELL_WEIGHT, CELL_PACKED, CELL_HIDDEN, CELL_WEIGHT_STRIDES = 6, 8, 2, slice(10, 12)
ACTIVATIONS = {"tanh": 1, "sigmoid": 2, "relu": 3, "lstm_gates": 4}  # tgr_activation
# kernels on rows, whose outputs may have gaps between their rows: how many outputs they have, which come first in places and,
# after two sizes, in n
ROWS_OUTPUTS = {"lstm_state": 1, "lstm_state_vjp": 4, "addcmul": 1, "addcmul_vjp": 2, "lerp": 1, "lerp_vjp": 3}
MOST_UNPACKED = 2  # products of one right operand: packing takes as long as a product of a few rows


def drop_dead(listing: Listing) -> str:
    """Dead-code elimination: leave out what writes only to memory that neither the program later nor the caller reads."""
    alive: set[Buffer] = set()
    out = []
    for i in reversed(listing.instructions):
        outputs = [p.buffer for p in i.writes()]
        if any(b in alive or not listing.is_temporary(b) for b in outputs):
            out.append(i)
            alive.update(p.buffer for p in i.reads())
        else:
            listing.elided.update(outputs)
    dropped = len(listing.instructions) - len(out)
    listing.instructions = out[::-1]
    return f"left out {dropped} calls whose results nobody reads"


def share(listing: Listing) -> str:
    """Common-subexpression elimination: compute once what is computed twice from the same values. Where both results are
    wanted, the second is a copy."""
    uses = Uses(listing)
    version: dict[Buffer, int] = {}
    seen: dict[tuple, Instruction] = {}
    new: dict[int, list[Instruction]] = {}
    for at, i in enumerate(listing.instructions):
        outputs = [(p, r) for p, r in zip(i.places, i.regions, strict=True) if p is not None and r.writes]
        if all(uses.whole_writer(p, r.size, temporary=False) == at and not r.reads for p, r in outputs):
            inputs = tuple(
                None if p is None else (p.resolved(), version.get(p.resolved().buffer, 0)) if r.reads else "output"
                for p, r in zip(i.places, i.regions, strict=True)
            )
            key = (i.kernel, i.dtype, i.n, i.c, inputs)
            if key in seen:
                new[at] = []
                for mine, theirs, region in zip(i.places, seen[key].places, i.regions, strict=True):
                    if mine is None or theirs is None or not region.writes:
                        continue
                    if listing.is_temporary(mine.buffer):
                        mine.buffer.alias_of = theirs
                    else:
                        n = (1, region.size // region.item, 1, 1)
                        new[at].append(Instruction("copy", i.dtype, (mine, theirs), n))
                continue
            seen[key] = i
        for p, _ in outputs:
            version[p.buffer] = version.get(p.buffer, 0) + 1
    listing.replace(new)
    listing.resolve()
    return f"left out {len(new)} calls that computed what another had computed"


def overwrite(listing: Listing) -> str:
    """Write the first summand of a sum where it stood to be added to zeros, and leave out zeros that nobody sees."""
    uses = Uses(listing)
    gone: dict[int, list[Instruction]] = {}
    written = 0
    for at, i in enumerate(listing.instructions):
        place = i.places[0]
        if i.kernel != "fill" or i.c[0] != 0 or str(i.c[0])[0] == "-" or not whole(i.regions[0], place):
            continue
        assert place is not None
        accesses = sorted(a for a in uses.of[place.buffer].all if a.at != at)
        if accesses and accesses[0].at < at:
            continue
        covered: list[tuple[int, int]] = []  # disjoint, in order: bytes of the buffer, or of every row of it
        row = place.buffer.size
        for a in accesses:
            adds = listing.instructions[a.at]
            columns = (
                _columns(adds.regions[0], a.low, place.buffer.size) if adds.kernel == "accumulate" and a.slot == 0 else None
            )
            if columns is None or covered and columns[0] != row:
                break
            row, low, high = columns
            n = bisect_left(covered, (low, high))
            near = covered[max(n - 1, 0) : n + 1]
            if any(start <= low and high <= end for start, end in near):
                continue
            if any(start < high and low < end for start, end in near):
                break
            covered.insert(n, (low, high))
            gone[a.at] = [Instruction("copy", adds.dtype, adds.places, adds.n, adds.c)]
            written += 1
        if sum(high - low for low, high in covered) == row:
            gone[at] = []
    listing.replace(gone)
    return f"wrote {written} first summands over zeros instead of adding them"


def _columns(region: Region, low: int, size: int) -> tuple[int, int, int] | None:
    """(bytes of a row, first byte, the one after the last) of what a region, which begins at byte `low` of a buffer of `size`
    bytes, takes of every row of that buffer; a region without gaps takes it of one row, which is all of the buffer. None for
    regions of another form."""
    if region.contiguous:
        return size, low, low + region.size
    if len(region.shape) != 2 or region.strides[1] != 1:
        return None
    row, high = region.strides[0] * region.item, low + region.shape[1] * region.item
    return (row, low, high) if region.shape[0] * row == size and low >= 0 and high <= row else None


def place_copies(listing: Listing) -> str:
    """Copy elision: compute what is copied as it stands right where the copy would go."""
    uses = Uses(listing)
    gone: dict[int, list[Instruction]] = {}
    for at, i in enumerate(listing.instructions):
        if i.kernel != "copy" or not (i.regions[0].contiguous and whole(i.regions[1], i.places[1])):
            continue
        to, source = i.places
        assert to is not None and source is not None
        buffer, size = source.buffer, source.buffer.size
        if not listing.is_temporary(buffer) or buffer.alias_of is not None or to.resolved().buffer is buffer:
            continue
        own = uses.of[buffer]
        if not own.writes or own.writes[-1] > at:
            continue
        first, last = min(a.at for a in own.all), max(a.at for a in own.all)
        there = [a for a in uses.of[to.buffer].overlapping(to.offset, to.offset + size) if a.at != at]
        if any(first <= a.at < at for a in there):
            continue  # the place is in use while the array is made
        changed = [a.at for a in there if a.writes and a.at > at]
        if changed and min(changed) <= last:
            continue
        if changed:
            listing.elided.add(buffer)
        uses.move(buffer, to)
        gone[at] = []
    listing.replace(gone)
    listing.resolve()
    placed = len(gone) + _place_columns(listing)
    return f"computed {placed} arrays in the place they were copied to"


def _place_columns(listing: Listing) -> int:
    """The same for what is copied to some columns of an array, the gradient of a gate, by kernels whose outputs may have gaps
    between their rows. Returns how many."""
    uses = Uses(listing)
    new: dict[int, list[Instruction]] = {}
    placed = 0
    for at, i in enumerate(listing.instructions):
        if i.kernel != "copy" or not whole(i.regions[1], i.places[1]):
            continue
        to, source, region = i.place(0), i.place(1), i.regions[0]
        columns = _columns(region, to.offset, to.buffer.size)
        writer = uses.whole_writer(source, source.buffer.size)
        reader = uses.only_reader(source.buffer)
        if columns is None or writer is None or reader is None or reader.at != at or to.buffer is source.buffer:
            continue
        maker = new[writer][0] if writer in new else listing.instructions[writer].copy()
        slot = maker.places.index(source) if source in maker.places else -1
        if not 0 <= slot < ROWS_OUTPUTS.get(maker.kernel, 0) or region.shape != maker.n[:2]:
            continue
        between = (a for a in uses.of[to.buffer].all if writer <= a.at < at)
        if any(not _beside(columns, listing.instructions[a.at], a, to.buffer.size) for a in between):
            continue
        maker.places = (*maker.places[:slot], to, *maker.places[slot + 1 :])
        maker.n = (*maker.n[: 2 + slot], region.strides[0], *maker.n[3 + slot :])
        listing.elided.add(source.buffer)
        new[writer], new[at] = [maker], []
        placed += 1
    listing.replace(new)
    return placed


def _beside(columns: tuple[int, int, int], i: Instruction, access: Access, size: int) -> bool:
    """Whether an access touches other columns of the same rows."""
    other = _columns(i.regions[access.slot], access.low, size)
    return other is not None and other[0] == columns[0] and (other[2] <= columns[1] or columns[2] <= other[1])


# ---- one product for many: those of all time steps with one weight


def _is_plain_product(i: Instruction) -> bool:
    """Whether an instruction is y = left right [+ bias], nothing else."""
    return (
        i.kernel == "matmul"
        and i.n[BATCH] == 1
        and i.n[ACTIVATION] == 0
        and not (i.places[DY] or i.places[PACKED] or i.places[BASE] or i.places[SCALED])
        and i.places[Y] is not None
    )


def bring_together(listing: Listing) -> str:
    """Scheduling: reorder, so that products of one right operand that do not depend on each other stand side by side."""
    groups = _groups_of_products(listing)
    order = _order(listing.instructions, groups)
    if order is None:
        accepted: list[list[Instruction]] = []
        for group in groups:
            if _order(listing.instructions, [*accepted, group]) is not None:
                accepted.append(group)
        groups, order = accepted, _order(listing.instructions, accepted)
    assert order is not None  # the present order is one, where there are no groups
    listing.instructions = order
    return f"brought {sum(map(len, groups))} products into {len(groups)} groups"


def _groups_of_products(listing: Listing) -> list[list[Instruction]]:
    """Products that share their right operand and sizes, and do not depend on each other."""
    uses = Uses(listing)
    groups: dict[tuple, list[tuple[int, Instruction]]] = {}
    for at, i in enumerate(listing.instructions):
        if _is_plain_product(i) and uses.whole_writer(i.places[Y], i.regions[Y].size) == at:
            key = (i.dtype, i.places[RIGHT], i.places[BIAS], i.n)
            groups.setdefault(key, []).append((at, i))
    out = []
    for group in groups.values():
        first, last = group[0][0], group[-1][0]
        members = [i for _, i in group]
        # the operands are not overwritten in between, and none depends on another
        if len(group) > 1 and uses.unchanged(members[0], first, last) and _independent(listing.instructions, first, members):
            out.append(members)
    return out


def _independent(instructions: list[Instruction], first: int, group: list[Instruction]) -> bool:
    """Whether no member of a group, which begins at position `first`, reads what another one, or what depends on it, writes."""
    members: set[int] = set(map(id, group))
    tainted: set[Buffer] = set()
    for at in range(first, len(instructions)):
        i = instructions[at]
        member = id(i) in members
        depends = any(p.buffer in tainted for p in i.reads())
        if member:
            if depends:
                return False
            members.remove(id(i))
            if not members:
                break
        if member or depends:
            tainted.update(p.buffer for p in i.writes())
    return True


def _order(instructions: list[Instruction], groups: list[list[Instruction]]) -> list[Instruction] | None:
    """The instructions with each group as one, in an order that respects who reads what others write, as near to the present
    one as can be; None where there is none."""
    leader = {id(i): id(group[0]) for group in groups for i in group}
    number = {id(i): at for at, i in enumerate(instructions)}
    unit = [number[leader.get(id(i), id(i))] for i in instructions]  # each unit is known by its first member
    members: dict[int, list[Instruction]] = {}
    after: dict[int, set[int]] = {u: set() for u in unit}
    waiting = dict.fromkeys(after, 0)
    writer: dict[Buffer, int] = {}
    readers: dict[Buffer, set[int]] = {}

    def depends(u: int, on: int) -> None:
        if u != on and u not in after[on]:
            after[on].add(u)
            waiting[u] += 1

    for u, i in zip(unit, instructions, strict=True):
        members.setdefault(u, []).append(i)
        for p in i.reads():
            if p.buffer in writer:
                depends(u, writer[p.buffer])
            readers.setdefault(p.buffer, set()).add(u)
        for p in i.writes():
            for reader in readers.pop(p.buffer, ()):
                depends(u, reader)
            if p.buffer in writer:
                depends(u, writer[p.buffer])
            writer[p.buffer] = u
    ready = [u for u, n in waiting.items() if n == 0]
    heapify(ready)
    out: list[Instruction] = []
    while ready:
        u = heappop(ready)
        out += members[u]
        for next_ in after[u]:
            waiting[next_] -= 1
            if not waiting[next_]:
                heappush(ready, next_)
    return out if len(out) == len(instructions) else None


def batch_products(listing: Listing) -> str:
    """Batching: multiply with one right operand once, by the rows of all products with it that stand side by side: a weight
    and the inputs of every step."""
    groups = [list(run) for key, run in groupby(listing.instructions, key=_right_operand) if key]
    groups = [g for g in groups if len(g) > 1 and _disjoint(g)]
    for group in sorted(groups, key=len, reverse=True):
        for places in zip(*_in_memory_order([(i.place(LEFT), i.place(Y)) for i in group]), strict=True):
            _stack(places)
    listing.resolve()
    at = {id(i): n for n, i in enumerate(listing.instructions)}
    new: dict[int, list[Instruction]] = {}
    before = after = 0
    for group in groups:
        merged = _merged_rows(group)
        if len(merged) < len(group):
            before, after = before + len(group), after + len(merged)
            new.update({at[id(i)]: [] for i in group})
            new[at[id(group[0])]] = merged
    listing.replace(new)
    return f"made {after} products of {before} with the same right operand"


def _right_operand(i: Instruction) -> tuple | None:
    return (i.dtype, i.places[RIGHT], i.places[BIAS], i.n) if _is_plain_product(i) else None


def _disjoint(group: list[Instruction]) -> bool:
    """Whether no product writes what another one reads or writes."""
    operands = [(i.places[slot], i.regions[slot]) for i in group for slot in (Y, LEFT, RIGHT, BIAS)]
    return not conflict((p.buffer, p.offset + r.low, p.offset + r.high, r.writes) for p, r in operands if p is not None)


def _in_memory_order(rows: list[tuple[Place, ...]]) -> list[tuple[Place, ...]]:
    """Operands of products, one row a product, in the order in which most of one column lie in memory, if any do."""
    for c in range(len(rows[0]) if rows else 0):
        (buffer, count), *_ = Counter(row[c].buffer for row in rows).most_common(1)
        if count > 1:
            return sorted(rows, key=lambda row: (row[c].buffer is buffer, row[c].offset))
    return rows


def _stack(places: Iterable[Place]) -> None:
    """Lay buffers that stand alone side by side, in runs of neighbours of one size."""

    def size(place: Place) -> int:
        alone = place.buffer.array is None and place.buffer.alias_of is None and place.offset == 0
        return place.buffer.size if alone else 0

    for one, run_ in groupby(places, key=size):
        run = list(run_)
        if one and len(run) > 1 and len({p.buffer for p in run}) == len(run):
            stack = Buffer(one * len(run))
            for at, place in enumerate(run):
                place.buffer.alias_of = Place(stack, at * one)


def _runs(places: Sequence[tuple[Place, ...]], steps: tuple[int | None, ...]) -> list[list[int]]:
    """Indices of `places`, cut into runs along which each column proceeds through one buffer by its step in bytes, a positive
    one found from the run itself where None is given."""
    runs: list[list[int]] = []
    step: list[int] = []
    for at, row in enumerate(places):
        if runs:
            before = places[runs[-1][-1]]
            moved = [b.offset - a.offset if a.buffer is b.buffer else 0 for a, b in zip(before, row, strict=True)]
            wanted = step if len(runs[-1]) > 1 else [m if s is None else s for m, s in zip(moved, steps, strict=True)]
            if all(m == w and m > 0 for m, w in zip(moved, wanted, strict=True)):
                step = wanted
                runs[-1].append(at)
                continue
        runs.append([at])
    return runs


def _merged_rows(group: list[Instruction]) -> list[Instruction]:
    """Products of one right operand as fewer of more rows, where their left operands and results lie at equal distances."""
    n = group[0].n
    item = ITEM_SIZES[group[0].dtype]
    rows = sorted([(i.place(LEFT), i.place(Y)) for i in group], key=lambda row: (id(row[1].buffer), row[1].offset))
    step = None if n[M] == 1 else n[M] * n[LEFT_ROW] * item
    out = []
    for run in _runs(rows, (step, n[M] * n[N] * item)):
        left, y = rows[run[0]]
        sizes = list(n)
        sizes[M] *= len(run)
        if n[M] == 1 and len(run) > 1:
            sizes[LEFT_ROW] = (rows[run[1]][0].offset - left.offset) // item
        places = list(group[0].places)
        places[LEFT], places[Y] = left, y
        out.append(Instruction("matmul", group[0].dtype, tuple(places), tuple(sizes)))
    return out


# ---- sums over time steps: of products, which are one product with the rows of all steps, and of sums over rows


def gather_sums(listing: Listing) -> str:
    """Compute a sum of products, or of sums over rows, as one: the gradient of a weight, or a bias, over all steps."""
    sums = _sums_of_parts(listing)
    for rows in sorted((_rows_of_products(s.products) for s in sums), key=len, reverse=True):
        for places in zip(*_in_memory_order(rows), strict=True):
            _stack(places)
    for s in sums:
        _stack(sorted((i.place(1) for i in s.sums), key=lambda p: p.offset))
    listing.resolve()
    new: dict[int, list[Instruction]] = {}
    before = after = 0
    for s in sums:
        products, totals = _merged_products(s.products), _merged_sums(s.sums)
        added = _added(s, products, totals)
        if any(i.overlaps_itself() for i in added):
            continue
        if len(products) + len(totals) < len(s.products) + len(s.sums):
            before, after = before + len(s.products) + len(s.sums), after + len(products) + len(totals)
            new.update({at: [] for at in s.at})
            new[s.at[-1]] = added
            listing.elided.update(i.place(Y).buffer for i in s.products + s.sums)
    listing.replace(new)
    return f"made {after} products and sums of {before} that were added up"


class _Sum:
    """A buffer that is the sum of others: what computes it, and what computes those that are computed for it alone.

    at        positions of all instructions that this replaces, the last addition last
    products, sums   instructions of those summands
    others    (position where it is added, place) of the other summands"""

    def __init__(self, total: Place, like: Instruction) -> None:
        self.total, self.like = total, like
        self.at: list[int] = []
        self.products: list[Instruction] = []
        self.sums: list[Instruction] = []
        self.others: list[tuple[int, Place]] = []


def _is_flat_addition(i: Instruction) -> bool:
    return i.kernel in ("add", "accumulate") and i.n[0] == 1 and i.n[2:] == (1, 1)


def _sums_of_parts(listing: Listing) -> list[_Sum]:
    uses, out = Uses(listing), []
    instructions = listing.instructions
    for at, i in enumerate(instructions):
        total = i.places[0]
        if i.kernel != "add" or not _is_flat_addition(i) or not whole(i.regions[0], total) or total is None:
            continue
        additions = [at]
        for a in uses.of[total.buffer].all:
            if a.at > at:
                j = instructions[a.at]
                if j.kernel != "accumulate" or a.slot != 0 or not _is_flat_addition(j) or j.n != i.n[:4]:
                    break
                additions.append(a.at)
        found = _Sum(total, i)
        for n in additions:
            for part in instructions[n].places[1:]:
                assert part is not None
                writer = uses.whole_writer(part, total.buffer.size)
                reader = uses.only_reader(part.buffer)
                if writer is not None and reader is not None and reader.at == n:
                    j = instructions[writer]
                    if uses.unchanged(j, writer, additions[-1]):
                        if _is_plain_product(j) and j.places[BIAS] is None:
                            found.products.append(j)
                            found.at.append(writer)
                            continue
                        if j.kernel == "sum" and j.n[0] == 1:
                            found.sums.append(j)
                            found.at.append(writer)
                            continue
                found.others.append((n, part))
        found.at += additions
        # the other summands will be read at the last addition
        if any(uses.touched(p, total.buffer.size, n + 1, additions[-1], writes=True) for n, p in found.others):
            continue
        alike = len({(j.n, j.dtype) for j in found.products}) <= 1 and len({j.n for j in found.sums}) <= 1
        if alike and max(len(found.products), len(found.sums)) > 1:
            out.append(found)
    return out


def _rows_of_products(products: list[Instruction]) -> list[tuple[Place, ...]]:
    """(right, left) of each product; the last one, which the backward pass meets first, is the latest step."""
    return [(i.place(RIGHT), i.place(LEFT)) for i in reversed(products)]


def _merged_products(products: list[Instruction]) -> list[Instruction]:
    """The sum of products as the sum of fewer, deeper ones, where their operands lie at equal distances."""
    if not products:
        return []
    n, dtype = products[0].n, products[0].dtype
    item = ITEM_SIZES[dtype]
    rows = _in_memory_order(_rows_of_products(products))
    steps = (None, None) if n[K] == 1 else (n[K] * n[RIGHT_ROW] * item, n[K] * n[LEFT_COLUMN] * item)
    out = []
    for run in _runs(rows, steps):
        right, left = rows[run[0]]
        sizes = list(n)
        sizes[K] *= len(run)
        if n[K] == 1 and len(run) > 1:
            sizes[RIGHT_ROW], sizes[LEFT_COLUMN] = (
                (b.offset - a.offset) // item for a, b in zip(rows[run[0]], rows[run[1]], strict=True)
            )
        out.append(Instruction("matmul", dtype, (None, None, left, right, None, None, None, None, None), tuple(sizes)))
    return out


def _merged_sums(sums: list[Instruction]) -> list[Instruction]:
    """The sum of sums over rows as fewer of them, where the rows lie side by side."""
    if not sums:
        return []
    (_, length, inner), dtype = sums[0].n, sums[0].dtype
    rows = sorted([(i.place(1),) for i in sums], key=lambda row: (id(row[0].buffer), row[0].offset))
    return [
        Instruction("sum", dtype, (None, rows[run[0]][0]), (1, length * len(run), inner))
        for run in _runs(rows, (length * inner * ITEM_SIZES[dtype],))
    ]


def _added(s: _Sum, products: list[Instruction], sums: list[Instruction]) -> list[Instruction]:
    """Instructions that write the sum of all parts to its total."""
    out: list[Instruction] = []
    flat = s.like.n[:4]
    for i in products:
        sizes = list(i.n)
        sizes[BASE_ROW] = i.n[N]
        i.places = (s.total, None, *i.places[LEFT:PACKED], None, s.total if out else None, None, None)
        i.n = tuple(sizes)
        out.append(i)
    for i in sums:
        if out:
            part = Place(Buffer(s.total.buffer.size), 0)
            i.places = (part, i.places[1])
            out += [i, Instruction("accumulate", i.dtype, (s.total, part), flat)]
        else:
            i.places = (s.total, i.places[1])
            out.append(i)
    for _, place in s.others:
        out.append(Instruction("accumulate" if out else "copy", s.like.dtype, (s.total, place), flat))
    return out


# ---- one call for several that follow each other on the same elements


def fuse(listing: Listing) -> str:
    """Let a product add what is added to it, apply the activation that follows it, and take in the product it is added to: a
    composed cell becomes one call."""
    count = len(listing.instructions)
    _fold(listing, _product_and_addition)
    _fold(listing, _product_and_activation)
    _fold(listing, _cell)
    _scale(listing)
    return f"fused {count - len(listing.instructions)} calls into the products before them"


def _fold(listing: Listing, pattern: Callable[[Listing, Uses, int], tuple[int, Instruction] | None]) -> None:
    """Where `pattern` at a position gives an earlier position and an instruction that stands for those at both, put that in."""
    uses = Uses(listing)
    gone: set[int] = set()
    new: dict[int, list[Instruction]] = {}
    for at in range(len(listing.instructions)):
        found = pattern(listing, uses, at)
        if found and found[0] not in gone and not found[1].overlaps_itself():
            earlier, both = found
            gone.add(earlier)
            listing.elided.add(listing.instructions[earlier].place(Y).buffer)
            listing.instructions[at] = both  # later patterns see it; its uses are those of the two
            new[at] = [both]
            new[earlier] = []
    listing.replace(new)


def _product_before(
    listing: Listing, uses: Uses, at: int, place: Place | None, elements: int, wanted: Callable[[Instruction], bool]
) -> int | None:
    """Position of the product that made all of `place` for the instruction at `at` alone, and could as well be made there."""
    if place is None:
        return None
    writer = uses.whole_writer(place, elements * ITEM_SIZES[listing.instructions[at].dtype])
    reader = uses.only_reader(place.buffer)
    if writer is None or reader is None or reader.at != at:
        return None
    product = listing.instructions[writer]
    if product.kernel != "matmul" or not wanted(product) or not uses.unchanged(product, writer, at):
        return None
    return writer


def _product_and_addition(listing: Listing, uses: Uses, at: int) -> tuple[int, Instruction] | None:
    i = listing.instructions[at]
    if i.kernel not in ("add", "accumulate"):
        return None
    axes = i.n[0]
    dims, *strides = (i.n[1 + k * axes : 1 + (k + 1) * axes] for k in range(3))
    elements = prod(dims)
    if i.kernel == "accumulate":
        if not _is_flat_addition(i) or not i.regions[0].contiguous:
            return None
        operands = [(i.places[1], i.places[0], strides[0])]
    else:
        operands = [(i.places[2], i.places[1], strides[0]), (i.places[1], i.places[2], strides[1])]
    best: tuple[int, Instruction] | None = None
    for k, (part, other, other_strides) in enumerate(operands):
        part_strides = strides[1 - k] if i.kernel == "add" else (1,)
        if part_strides != (1,) and part_strides != (dims[-1], 1):
            continue
        writer = _product_before(listing, uses, at, part, elements, _is_plain_product)
        if writer is None or best is not None and writer < best[0]:
            continue  # of two products the later one is folded: the other is ready by then
        product = listing.instructions[writer].copy()
        places, n = list(product.places), list(product.n)
        columns = n[N]
        places[Y] = i.places[0]
        if other_strides == (1,):
            places[BASE], n[BASE_ROW] = other, columns
        elif dims[-1] == columns and other_strides[-1] == 1 and other_strides[0] >= columns:
            places[BASE], n[BASE_ROW] = other, other_strides[0]
        elif dims[-1] == columns and other_strides == (0, 1) and places[BIAS] is None:
            places[BIAS] = other
        else:
            continue
        product.places, product.n = tuple(places), tuple(n)
        best = writer, product
    return best


def _product_and_activation(listing: Listing, uses: Uses, at: int) -> tuple[int, Instruction] | None:
    i = listing.instructions[at]
    if i.kernel not in ACTIVATIONS:
        return None
    elements = prod(i.regions[0].shape)
    writer = _product_before(
        listing, uses, at, i.places[-1], elements, lambda p: p.n[BATCH] == 1 and not p.n[ACTIVATION] and not p.places[DY]
    )
    if writer is None:
        return None
    product = listing.instructions[writer].copy()
    if i.kernel == "lstm_gates" and product.n[N] != 4 * i.n[1]:
        return None
    product.places = (i.places[0], i.places[1] if i.kernel != "relu" else None, *product.places[LEFT:])
    product.n = (*product.n[:ACTIVATION], ACTIVATIONS[i.kernel])
    return writer, product


def _cell(listing: Listing, uses: Uses, at: int) -> tuple[int, Instruction] | None:
    i = listing.instructions[at]
    if i.kernel != "matmul" or i.places[BASE] is None or i.places[PACKED] or i.n[BATCH] != 1 or i.n[K] != i.n[N]:
        return None
    if i.n[BASE_ROW] != i.n[N]:
        return None
    batch, hidden = i.n[M], i.n[N]
    writer = _product_before(
        listing, uses, at, i.places[BASE], batch * hidden, lambda p: _is_plain_product(p) and p.n[M] == batch
    )
    if writer is None:
        return None
    inputs = listing.instructions[writer]
    places = (*i.places[: DY + 1], *inputs.places[LEFT : BIAS + 1], *i.places[LEFT : BIAS + 1], None)
    # the kernel takes weights as (H, I) and (H, H), and products have their transposes
    n: tuple[int, ...] = (batch, inputs.n[K], hidden, i.n[ACTIVATION])
    for product in (inputs, i):
        n += (*product.n[LEFT_ROW : LEFT_COLUMN + 1], product.n[RIGHT_COLUMN], product.n[RIGHT_ROW])
    return writer, Instruction("rnn_cell", i.dtype, places, n)


def _scale(listing: Listing) -> None:
    """Let a product write its own product with another array, too: a cotangent, and that times the derivative."""
    uses = Uses(listing)
    new: dict[int, list[Instruction]] = {}
    for at, i in enumerate(listing.instructions):
        if i.kernel != "mul" or i.n[0] != 1 or i.n[2:] != (1, 1):
            continue
        scaled, *factors = i.places
        size = i.regions[0].size
        for y, times in (factors, factors[::-1]):
            writer = None if y is None else uses.last_writer(y, size, at)
            if writer is None or writer in new:
                continue
            product = listing.instructions[writer]
            if product.kernel != "matmul" or product.n[BATCH] != 1 or product.places[Y] != y or product.places[SCALED]:
                continue
            if product.n[ACTIVATION] or product.places[DY] or y == times:
                continue
            assert scaled is not None and times is not None
            if uses.touched(scaled, size, writer, at) or uses.touched(times, size, writer, at, writes=True):
                continue
            product = product.copy()
            product.places = (*product.places[:SCALED], scaled, times)
            if product.overlaps_itself():
                continue
            new[writer], new[at] = [product], []
            break
    listing.replace(new)


def pack(listing: Listing) -> str:
    """Prepacking: lay a right operand that several products share, a weight for all steps, out as their tiles read it, once."""
    uses = Uses(listing)
    users: dict[tuple, list[int]] = {}
    for at, i in enumerate(listing.instructions):
        if i.kernel == "matmul" and i.n[BATCH] == 1 and not i.places[PACKED]:
            users.setdefault((i.dtype, i.places[RIGHT], *i.n[N : K + 1], *i.n[RIGHT_ROW : RIGHT_COLUMN + 1]), []).append(at)
        elif i.kernel == "rnn_cell" and not i.places[CELL_PACKED]:
            # strides of the weight, of which the right operand is the transpose
            hidden, (column, row) = i.n[CELL_HIDDEN], i.n[CELL_WEIGHT_STRIDES]
            users.setdefault((i.dtype, i.places[CELL_WEIGHT], hidden, hidden, row, column), []).append(at)
    new: dict[int, list[Instruction]] = {}
    packed_operands = 0
    for (dtype, right, columns, k, row, column), at_ in users.items():
        pack_ = Instruction("pack", dtype, (None, right), (k, columns, row, column))
        if len(at_) <= MOST_UNPACKED or not uses.unchanged(pack_, at_[0], at_[-1]):
            continue
        packed = Place(Buffer(pack_.regions[0].size), 0)
        pack_.places = (packed, right)
        packed_operands += 1
        for at in at_:
            i = listing.instructions[at].copy()
            slot = PACKED if i.kernel == "matmul" else CELL_PACKED
            i.places = (*i.places[:slot], packed, *i.places[slot + 1 :])
            new[at] = [*([pack_] if at == at_[0] else []), i]
    listing.replace(new)
    return f"packed {packed_operands} right operands"


PASSES: dict[str, Callable[[Listing], str]] = {
    "dead": drop_dead,
    "overwrite": overwrite,
    "order": bring_together,
    "place": place_copies,
    "sums": gather_sums,
    "batch": batch_products,
    "share": share,
    "fuse": fuse,
    "pack": pack,
}
# these change no bit of any result
EXACT = ("dead", "share", "order", "place")
# these need what all steps computed at once
ACROSS_STEPS = ("order", "sums", "batch")
