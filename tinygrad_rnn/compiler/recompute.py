"""Trading time for memory: what the forward pass of a stretch of steps computed is dropped, and computed again when the
backward pass comes to it (Griewank & Walther, "Revolve", ACM TOMS 2000; with stretches of equal length, Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

from .instruction import Buffer, Instruction, Place, aligned
from .listing import Listing, Uses


def recompute_segments(listing: Listing, step_of: Mapping[Buffer, int], cotangents: set[Buffer], every: int) -> str:
    """Compute the arrays of each stretch of `every` steps again before the first cotangent that needs one of them, in memory
    that other stretches have used.

    step_of     the time step of what a buffer holds, where it has one
    cotangents  buffers of cotangents: the first instruction that writes one begins the backward pass"""
    if not step_of:
        return "found no steps: no scope names a t"
    uses = Uses(listing)
    backward = min((a.at for b in cotangents if b in uses.of for a in uses.of[b].all if a.writes), default=None)
    if backward is None:
        return "found no backward pass"
    segments: dict[int, list[int]] = {}
    for at in range(backward):
        steps = [step_of[p.buffer] for p in listing.instructions[at].writes() if p.buffer in step_of]
        if steps:
            segments.setdefault(steps[0] // every, []).append(at)
    segment_of = {at: s for s, members in segments.items() for at in members}
    local: dict[Buffer, int] = {}  # read in its own stretch and by the backward pass only
    for at, s in segment_of.items():
        i = listing.instructions[at]
        if not any(r.reads and r.writes for r in i.regions) and all(p.buffer.array is None for p in i.writes()):
            for p, r in zip(i.places, i.regions, strict=True):
                if p is not None and r.writes and uses.whole_writer(p, r.size) == at:
                    readers = (a.at for a in uses.of[p.buffer].all if a.reads)
                    if all(a >= backward or segment_of.get(a) == s for a in readers):
                        local[p.buffer] = s
    # what is computed again has to find the same operands
    for s, members in segments.items():
        wanted = [a.at for b, t in local.items() if t == s for a in uses.of[b].all if a.reads and a.at >= backward]
        if wanted and not all(uses.unchanged(listing.instructions[at], at, min(wanted)) for at in members):
            local = {b: t for b, t in local.items() if t != s}
    out = listing.instructions[:backward]
    again: dict[Buffer, Buffer] = {}
    done: set[int] = set()
    added = 0
    for i in listing.instructions[backward:]:
        for p in list(i.reads()):
            needed = local.get(p.buffer)
            if needed is not None and needed not in done:
                done.add(needed)
                clones = _clones(listing, uses, segments[needed], local, again, backward)
                added += len(clones)
                out += clones
        j = i.copy()
        j.places = tuple([p and Place(again.get(p.buffer, p.buffer), p.offset) for p in i.places])
        out.append(j)
    listing.instructions = out
    # what a stretch hands on stays where it is: it is where reading a node begins to compute
    # so does what no call can make again, because it writes to the outside besides
    fixed = {p.buffer for at in segment_of for p in out[at].writes() if p.buffer not in local}
    for i in out:
        written = [p.buffer for p in i.writes()]
        if any(b.array is not None for b in written):
            fixed.update(written)
    _pool(listing, fixed)
    return f"computes {added} calls again, in {len(done)} stretches of {every} steps"


def _clones(
    listing: Listing, uses: Uses, members: list[int], local: dict[Buffer, int], again: dict[Buffer, Buffer], backward: int
) -> list[Instruction]:
    """Copies of those instructions of a stretch that the backward pass needs, writing to buffers of their own."""
    needed: set[Buffer] = set()
    chosen: list[int] = []
    for at in reversed(members):
        i = listing.instructions[at]
        outputs = [p.buffer for p in i.writes() if p.buffer in local]
        if any(b in needed or any(a.reads and a.at >= backward for a in uses.of[b].all) for b in outputs):
            chosen.append(at)
            needed.update(p.buffer for p in i.reads() if p.buffer in local)
    clones = []
    for at in reversed(chosen):
        i = listing.instructions[at]
        places: list[Place | None] = []
        for p, r in zip(i.places, i.regions, strict=True):
            if p is not None and r.writes:
                fresh = Buffer(r.size)
                if p.buffer in local:
                    again[p.buffer] = fresh
                places.append(Place(fresh, 0))
            else:
                places.append(p and Place(again.get(p.buffer, p.buffer), p.offset))
        j = i.copy()
        j.places = tuple(places)
        clones.append(j)
    return clones


def _pool(listing: Listing, fixed: set[Buffer]) -> None:
    """Give temporary buffers, but for the `fixed` ones, the same memory where their times of use do not overlap."""
    first: dict[Buffer, int] = {}
    last: dict[Buffer, int] = {}
    for at, i in enumerate(listing.instructions):
        for p in i.places:
            if p is not None and listing.is_temporary(p.buffer) and p.buffer not in fixed:
                first.setdefault(p.buffer, at)
                last[p.buffer] = at
    ends: dict[int, list[Buffer]] = {}
    for b, at in last.items():
        ends.setdefault(at, []).append(b)
    begins: dict[int, list[Buffer]] = {}
    for b, at in first.items():
        begins.setdefault(at, []).append(b)
    free: dict[int, list[int]] = {}
    where: dict[Buffer, int] = {}
    total = 0
    for at in range(len(listing.instructions)):
        for b in begins.get(at, ()):
            size = aligned(b.size)
            if free.get(size):
                where[b] = free[size].pop()
            else:
                where[b], total = total, total + size
        for b in ends.get(at, ()):
            free.setdefault(aligned(b.size), []).append(where[b])
    if not total:
        return
    pool = Buffer(total)
    for b, offset in where.items():
        b.alias_of = Place(pool, offset)
        listing.elided.add(b)
    listing.resolve()
