#!/bin/sh
# Tests the features in README.md with real pods: hack/kube/selftest.sh KUBE
#
# It starts a cluster with the executable KUBE and stops at the first test that fails. It
# only requires Go and a shell.
set -eu

kube=$(realpath "${1:?usage: selftest.sh KUBE}")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cluster=$work/cluster
KUBECONFIG=$cluster/kubeconfig
export KUBECONFIG
forward=

finish() {
	status=$?
	[ -z "$forward" ] || kill "$forward" 2>/dev/null || true
	[ $status -eq 0 ] || tail -n 20 "$cluster"/logs/up.log 2>/dev/null || true
	"$kube" down --dir "$cluster" || status=1
	"$kube" down --dir "$work/plane" || status=1
	rm -rf "$work"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

k() { "$kube" kubectl "$@"; }
check() { printf '%s\n' "- $*"; }
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

# equal WANT COMMAND ... tests the output of a command for equality.
equal() {
	want=$1
	shift
	have=$("$@" 2>&1) || true
	[ "$have" = "$want" ] || fail "$* printed '$have', want '$want'"
}

# eventually SECONDS WANT COMMAND ... waits until the output contains WANT.
eventually() {
	limit=$(($(date +%s) + $1))
	want=$2
	shift 2
	while :; do
		have=$("$@" 2>&1) || true
		case $have in *"$want"*) return 0 ;; esac
		[ "$(date +%s)" -lt $limit ] || fail "$* did not print '$want' in time: $have"
		sleep 0.2
	done
}

# inside POD COMMAND ... runs a command in a pod.
inside() {
	pod=$1
	shift
	k exec -n test "$pod" -- "$@"
}

# pods APP lists the running pods of an application.
pods() {
	k get pods -n test -l app="$1" --field-selector=status.phase=Running -o name
}

# visits URL COUNT requests a URL from a pod and counts the pods that respond.
visits() {
	inside "$web" sh -c "for i in \$(seq $2); do testserver get $1; done" | sort | uniq -c | awk '{print $1}' | xargs
}

# child PARENT NAME prints the PID of the child of a process with a name.
child() {
	for directory in /proc/[0-9]*; do
		if grep -qs "^PPid:[[:space:]]*$1\$" "$directory/status" && grep -qs "^$2" "$directory/cmdline"; then
			basename "$directory"
		fi
	done
}

echo "building the test server"
(cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$work/testserver" ./testserver)

check "a cluster starts in the background"
"$kube" up --dir "$cluster" --name self --image example.com/testserver="$work/testserver" --detach
equal self k config current-context
if "$kube" up --dir "$cluster" 2>/dev/null; then fail "a second cluster was started in the same directory"; fi

check "pods that conform to the restricted standard run, others are rejected"
k apply -f "$here/selftest.yaml" >/dev/null
k rollout status -n test deploy/web sts/store --timeout=60s >/dev/null
k run -n test loose --image=example.com/testserver 2>"$work/refusal" && fail "an unrestricted pod was admitted"
grep -q 'violates PodSecurity "restricted' "$work/refusal" || fail "the rejection is: $(cat "$work/refusal")"
web=$(pods web | head -n 1)

check "an image without an executable is not pulled, and an event has the required option"
eventually 20 ImagePullBackOff k get pod -n test unknown
eventually 5 "kube up --image example.com/unknown=EXECUTABLE" k get events -n test

check "exec supports exit statuses, input and terminals"
status=0
inside "$web" sh -c 'exit 7' 2>/dev/null || status=$?
[ $status = 7 ] || fail "the exit status of exec is $status"
equal hello sh -c "echo hello | '$kube' kubectl exec -i -n test $web -- cat"
if [ -t 0 ] && [ -t 1 ]; then
	k exec -it -n test "$web" -- tty | grep -q /dev/pts/ || fail "exec did not allocate a terminal"
fi

check "programs do not run as root and can only write to their volumes"
[ "$(inside "$web" id -u)" != 0 ] || fail "a program runs as root"
equal 0000000000000000 inside "$web" awk '/^CapEff/ {print $2}' /proc/self/status
inside "$web" sh -c 'echo x >/tmp/x' 2>/dev/null && fail "the root file system is writable"
equal x inside "$web" sh -c 'echo x >/data/x; cat /data/x'

check "pods have their environment, Secrets, ConfigMaps and service account tokens"
equal "secret ${web#pod/}" inside "$web" sh -c 'echo $PASSWORD $POD'
equal secret inside "$web" cat /etc/password/password
equal "test" inside "$web" cat /var/run/secrets/kubernetes.io/serviceaccount/namespace

check "a changed ConfigMap is updated in a running pod within 90 seconds, as by default"
equal old inside "$web" cat /etc/flags/flag
k patch configmap -n test flags -p '{"data":{"flag":"new"}}' >/dev/null
eventually 120 new inside "$web" cat /etc/flags/flag

check "a Service is balanced over all ready pods, by name and by address, from pods and from outside"
equal "2 2 2" visits http://web/ 6
equal "2 2 2" visits "http://$(k get svc -n test web -o 'jsonpath={.spec.clusterIP}')/" 6
"$kube" forward --dir "$cluster" web.test.svc.cluster.local:80 >"$work/forward" &
forward=$!
eventually 5 127.0.0.1: cat "$work/forward"
for _ in 1 2 3; do "$work/testserver" get "http://$(cat "$work/forward")/"; done >"$work/answers"
equal 3 sh -c "sort -u '$work/answers' | wc -l"
kill "$forward"
forward=

check "a pod that is not ready receives no connections"
inside "$web" testserver get http://127.0.0.1:8080/unready
eventually 10 "3 3" visits http://web/ 6
inside "$web" testserver get http://127.0.0.1:8080/reready
eventually 10 "2 2 2" visits http://web/ 6

check "a Service without ready pods refuses connections"
eventually 5 "connection refused" inside "$web" testserver get http://nobody/

check "DNS resolves Services and pods of headless Services only"
equal store-1 inside "$web" testserver get http://store-1.store.test.svc.cluster.local:8080/
equal 2 inside "$web" testserver lookup store
eventually 5 "no such host" inside "$web" testserver get http://store-7.store:8080/
eventually 5 "no such host" inside "$web" testserver get http://example.com/

check "the API server is reachable from pods"
eventually 5 "certificate signed by unknown authority" inside "$web" testserver get https://kubernetes.default/

check "port-forward works"
"$kube" kubectl port-forward -n test "$web" :8080 >"$work/port" 2>&1 &
forward=$!
eventually 10 "Forwarding from 127.0.0.1" cat "$work/port"
port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$work/port")
equal "${web#pod/}" "$work/testserver" get "http://127.0.0.1:$port/"
kill "$forward"
forward=

check "a program that exits is restarted, and its log is kept"
store=$(pods store | head -n 1)
"$kube" kubectl logs -n test -f "$store" >"$work/followed" &
inside "$store" testserver get http://127.0.0.1:8080/exit/3 >/dev/null 2>&1 || true
eventually 10 "exiting with 3" k logs -n test --previous "$store"
eventually 5 "exiting with 3" cat "$work/followed"
eventually 10 '"exitCode":3' k get -n test "$store" -o 'jsonpath={.status.containerStatuses[0].lastState}'
eventually 20 true k get -n test "$store" -o 'jsonpath={.status.containerStatuses[0].ready}'
inside "$store" testserver get http://127.0.0.1:8080/exit/3 >/dev/null 2>&1 || true
eventually 10 CrashLoopBackOff k get -n test "$store"

check "a program that ignores SIGTERM is killed after its grace period"
eventually 10 serving k logs -n test stubborn
"$kube" kubectl logs -n test -f stubborn >"$work/stubborn" 2>&1 &
begin=$(date +%s)
k delete pod -n test stubborn >/dev/null
took=$(($(date +%s) - begin))
[ $took -ge 2 ] && [ $took -le 8 ] || fail "it took $took s"
equal 1 grep -c "received SIGTERM" "$work/stubborn"

check "preStop hooks run, and a Service stays reachable during rolling updates"
"$kube" kubectl logs -n test -f "$web" >"$work/hook" 2>&1 &
k set env -n test deploy/web ROUND=2 >/dev/null
k rollout status -n test deploy/web --timeout=60s >/dev/null
eventually 20 stopping cat "$work/hook"
web=$(pods web | head -n 1)
eventually 20 "2 2 2" visits http://web/ 6

check "disruption budgets and autoscalers work"
eventually 20 1 k get pdb -n test web -o 'jsonpath={.status.disruptionsAllowed}'
eventually 40 AbleToScale k get hpa -n test web -o 'jsonpath={.status.conditions[*].type}'

check "dependents are garbage-collected, and namespaces are deleted"
k delete deploy -n test web >/dev/null
eventually 40 "No resources found" k get rs,pods -n test -l app=web
k delete namespace test --timeout=60s >/dev/null

check "a control plane without a node needs no namespaces and runs beside another cluster"
"$kube" up --dir "$work/plane" --no-node --detach >/dev/null
equal default k --kubeconfig "$work/plane/kubeconfig" get ns default -o 'jsonpath={.metadata.name}'

check "a cluster stops with an error when its API server exits"
kill -KILL "$(child "$(cat "$work/plane/pid")" kube-apiserver)"
eventually 10 "kube-apiserver ended" cat "$work/plane/logs/up.log"

check "a stopped cluster leaves nothing behind"
pid=$(cat "$cluster/pid")
"$kube" down --dir "$cluster"
if grep -qs up "/proc/$pid/cmdline"; then fail "process $pid is still running"; fi
printf '%s/' "$cluster" >"$work/path"
left=$(grep -lsf "$work/path" /proc/[0-9]*/cmdline || true)
[ -z "$left" ] || fail "processes are still running: $left"
"$kube" down --dir "$cluster"

echo "all tests passed"
