# shellcheck shell=bash
# What .ci/run and .ci/nightly share. Sourced by bash at the repository's root.

# A developer's own settings are not to decide here.
for name in "${!PRTWATCH_@}"; do unset "$name"; done

export KAFKA_PORT=${KAFKA_PORT:-19092}
KAFKA_DIR=$(mktemp -d "${TMPDIR:-/tmp}/prtwatch-kafka.XXXXXX")
export KAFKA_DIR

results=()
current=

# only are parts of the names of the steps to run, the script's arguments; none is all steps.
only=("$@")
declare -A met=() # those of them that a step had

# chosen reports whether a step is among them.
chosen() {
	((${#only[@]})) || return 0
	local part found=1
	for part in "${only[@]}"; do
		[[ $1 == *"$part"* ]] && found=0 met[$part]=1
	done
	return "$found"
}

# step runs a command under a name, says how long it took, and ends everything when it fails.
step() {
	local began=$SECONDS
	if ! chosen "$1"; then
		results+=("NOT RUN  $1: not asked for")
		return 0
	fi
	current=$1
	shift
	printf '\n=== %s\n' "$current"
	"$@"
	[[ -n $current ]] || return 0 # it has said itself that it was skipped
	results+=("$(printf '%5d s  %s' $((SECONDS - began)) "$current")")
	printf -- '--- %s: %d s\n' "$current" $((SECONDS - began))
	current=
}

# skipped notes what could not be run, so that it is not taken for passed.
skipped() {
	chosen "$1" || return 0
	results+=("NOT RUN  $1: $2")
	printf '\n=== %s: NOT RUN: %s\n' "$1" "$2"
	current=
}

# finish takes the broker down and says how it went, however it went.
finish() {
	local code=$?
	trap - EXIT
	if ! deploy/kafka/kafka down --delete >/dev/null; then
		echo "the broker could not be taken down; its files are in $KAFKA_DIR" >&2
		code=1
	fi
	printf '\n=== summary\n'
	((${#results[@]} == 0)) || printf '%s\n' "${results[@]}"
	if ((code == 0)); then
		local part
		for part in "${only[@]}"; do # a slip of the pen is not to look like a pass
			[[ -n ${met[$part]-} ]] || {
				echo "no step has \"$part\" in its name"
				code=1
			}
		done
	fi
	if ((code != 0)); then
		echo "FAILED${current:+: $current}"
	else
		echo "passed in $SECONDS s"
	fi
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# has reports whether the command is there, after trying to install its Debian packages.
has() {
	local command=$1
	shift
	command -v "$command" >/dev/null && return
	command -v apt-get >/dev/null && ((EUID == 0)) || return 1
	echo "installing $*"
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 ||
		{ apt-get update -q >/dev/null 2>&1 &&
			DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1; } || return 1
	command -v "$command" >/dev/null
}

need() {
	has "$@" || {
		echo "there is no $1, and it cannot be installed here" >&2
		return 1
	}
}

# tool runs one of the tools of tools.mod, which are no dependencies of prtwatch.
tool() { go tool -modfile=.ci/tools.mod "$@"; }

# vulnerabilities fails when one is known of what prtwatch calls. The database of them is not to be had everywhere.
vulnerabilities() {
	local out
	if out=$(tool govulncheck ./... 2>&1); then
		return
	fi
	printf '%s\n' "$out"
	if [[ $out == *"fetching vulnerabilities: "* ]]; then
		skipped "$current" "the database cannot be reached"
		return
	fi
	return 1
}

# nothing fails when the command that it runs prints anything.
nothing() {
	local out
	out=$("$@")
	[[ -z $out ]] && return
	printf '%s\n' "$out"
	return 1
}

kafka_up() {
	need java openjdk-17-jre-headless
	need mvn maven
	need openssl openssl
	deploy/kafka/kafka up --secure
}

# on_kafka runs the tests that know broker.Each on the real broker too, and the commands of the documents. The packages share
# its two cores with it: one after the other. prtwatch is there a user with the rights of docs/security.md and no more.
on_kafka() {
	PRTWATCH_TEST_BROKERS=127.0.0.1:$KAFKA_PORT PRTWATCH_TEST_SECURE=$KAFKA_DIR/secure PRTWATCH_TEST_ACLS=1 go test -count=1 -p 1 -timeout 20m "$@" \
		./internal/brokertest ./stream/... ./cmd/... ./deploy/kafka
}
