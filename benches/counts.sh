#!/usr/bin/env bash
# Counts the instructions of the scenarios of `counts.rs` and compares them with the baseline in `counts.txt`: a growth beyond 5 %
# fails. `benches/counts.sh --write` renews the baseline, and the table in docs/performance.md.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

baseline=benches/counts.txt
page=docs/performance.md
renew="benches/counts.sh --write"
scenarios=("pass-through 100000" "spill-and-replay 100000" "acknowledged 10000")

write=no
case "$*" in
    "") ;;
    --write) write=yes ;;
    *) echo "usage: benches/counts.sh [--write]" >&2; exit 2 ;;
esac

# A machine that can't count is no reason to stop the gate, but it can't renew the baseline either.
not_counted() {
    echo "instructions are not counted here: $1"
    [[ $write == no ]] && exit 0 || exit 1
}
[[ $(uname -m) == x86_64 ]] && grep -qw sse4_2 /proc/cpuinfo || not_counted "the baseline is for x86-64 with SSE4.2"
command -v valgrind >/dev/null || not_counted "there is no valgrind"

program=$(cargo bench --no-default-features --bench counts --no-run --message-format=json-render-diagnostics |
    sed -n 's/.*"name":"counts".*"executable":"\([^"]*\)".*/\1/p')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What an interrupted scenario leaves goes too.
export TMPDIR="$work"
# The C library copies with what the processor has, and a repeated move counts once for each byte. So it gets what all have.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-AVX_Fast_Unaligned_Load,-ERMS

# Instructions of a whole process.
collected() {
    timeout 300 valgrind --tool=callgrind --vgdb=no --log-file="$work/log" --callgrind-out-file="$work/out" \
        "$program" "$1" "$2" >&2 || { cat "$work/log" >&2; exit 1; }
    grep -o 'Collected : [0-9]*' "$work/log" | cut -d' ' -f3
}

# One line of the baseline, without its key.
baseline_of() {
    sed -n "s/^$1 //p" "$baseline" 2>/dev/null || true
}

version_now=$(rustc --version | cut -d' ' -f2)
version_then=$(baseline_of rustc)

counted=()
rows=()
missing=no
grown=no
shrunk=no
printf '%-18s %8s %12s %12s %6s %9s\n' scenario items count baseline ratio "per item"
for scenario in "${scenarios[@]}"; do
    read -r name items <<<"$scenario"
    whole=$(collected "$name" "$items")
    around=$(collected "$name" 0)
    count=$((whole - around))
    before=$(baseline_of "$scenario")
    ratio=-
    if [[ -z $before ]]; then
        missing=yes
    else
        ratio=$(awk "BEGIN { printf \"%.3f\", $count / $before }")
        ((count * 100 <= before * 105)) || grown=yes
        ((count * 100 >= before * 95)) || shrunk=yes
    fi
    printf '%-18s %8d %12d %12s %6s %9d\n' "$name" "$items" "$count" "${before:--}" "$ratio" $((count / items))
    counted+=("$scenario $count")
    rows+=("| $name | $items | $((count / items)) |")
done

if [[ $write == yes ]]; then
    {
        echo "# scenario, items, instructions without what surrounds them; written by $renew"
        echo "# For x86-64 with SSE4.2, and this minor version of the compiler:"
        echo "rustc $version_now"
        printf '%s\n' "${counted[@]}"
    } >"$baseline"
    table=$(printf '%s\n' "| scenario | items | instructions an item |" "|---|---|---|" "${rows[@]}")
    awk -v table="$table" '/^<!-- counts:/ { print; print table; inside = 1 } /^<!-- end of counts/ { inside = 0 } !inside' \
        "$page" >"$work/page"
    cat "$work/page" >"$page"
    echo "written to $baseline and $page"
elif [[ -z $version_then || $missing == yes ]]; then
    echo "the baseline doesn't have all of this; write it with $renew" >&2
    exit 1
elif [[ ${version_now%.*} != "${version_then%.*}" ]]; then
    echo "not comparable: counted with rustc $version_now, the baseline with $version_then; renew it with $renew"
elif [[ $grown == yes ]]; then
    echo "more than 5 % beyond the baseline; if that is what it should cost, renew it with $renew" >&2
    exit 1
elif [[ $shrunk == yes ]]; then
    echo "more than 5 % below the baseline: renew it with $renew, to keep what was gained"
fi
