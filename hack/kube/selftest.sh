#!/bin/sh
# Proves what README.md claims with real pods: hack/kube/selftest.sh KUBE
#
# It starts a cluster from the executable KUBE, checks one claim after the other
# and ends at the first that is false. It needs nothing but Go and a shell.
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
claim() { printf '%s\n' "- $*"; }
fail() {
	echo "FALSE: $*" >&2
	exit 1
}

# equal WANT COMMAND ... compares the output of a command.
equal() {
	want=$1
	shift
	have=$("$@" 2>&1) || true
	[ "$have" = "$want" ] || fail "$* gives '$have', not '$want'"
}

# eventually SECONDS WANT COMMAND ... waits for an output that has WANT in it.
eventually() {
	limit=$(($(date +%s) + $1))
	want=$2
	shift 2
	while :; do
		have=$("$@" 2>&1) || true
		case $have in *"$want"*) return 0 ;; esac
		[ "$(date +%s)" -lt $limit ] || fail "$* does not give '$want' in time: $have"
		sleep 0.2
	done
}

# inside POD COMMAND ... runs a command in a pod.
inside() {
	pod=$1
	shift
	k exec -n test "$pod" -- "$@"
}

# pods APP lists the names of an application's pods that run.
pods() {
	k get pods -n test -l app="$1" --field-selector=status.phase=Running -o name
}

# visits URL COUNT requests a URL from a pod and counts the pods that respond.
visits() {
	inside "$web" sh -c "for i in \$(seq $2); do testserver get $1; done" | sort | uniq -c | awk '{print $1}' | xargs
}

# child PARENT NAME prints the child of a process that was started under a name.
child() {
	for directory in /proc/[0-9]*; do
		if grep -qs "^PPid:[[:space:]]*$1\$" "$directory/status" && grep -qs "^$2" "$directory/cmdline"; then
			basename "$directory"
		fi
	done
}

echo "building the test server"
(cd "$here" && CGO_ENABLED=0 go build -trimpath -o "$work/testserver" ./testserver)

claim "a cluster comes up, detached"
"$kube" up --dir "$cluster" --name self --image example.com/testserver="$work/testserver" --detach
equal self k config current-context
if "$kube" up --dir "$cluster" 2>/dev/null; then fail "a second cluster starts in the same directory"; fi

claim "pods that conform to the restricted standard run, others are refused"
k apply -f "$here/selftest.yaml" >/dev/null
k rollout status -n test deploy/web sts/store --timeout=60s >/dev/null
k run -n test loose --image=example.com/testserver 2>"$work/refusal" && fail "a loose pod is admitted"
grep -q 'violates PodSecurity "restricted' "$work/refusal" || fail "the rejection is: $(cat "$work/refusal")"
web=$(pods web | head -n 1)

claim "an image without an executable is not pulled, and an event has the required option"
eventually 20 ImagePullBackOff k get pod -n test unknown
eventually 5 "kube up --image example.com/unknown=EXECUTABLE" k get events -n test

claim "exec works, with an exit status, input and a terminal"
status=0
inside "$web" sh -c 'exit 7' 2>/dev/null || status=$?
[ $status = 7 ] || fail "exec gives $status"
equal hello sh -c "echo hello | '$kube' kubectl exec -i -n test $web -- cat"
if [ -t 0 ] && [ -t 1 ]; then
	k exec -it -n test "$web" -- tty | grep -q /dev/pts/ || fail "exec gives no terminal"
fi

claim "programs are not root and can write nothing but their volumes"
[ "$(inside "$web" id -u)" != 0 ] || fail "a program is root"
equal 0000000000000000 inside "$web" awk '/^CapEff/ {print $2}' /proc/self/status
inside "$web" sh -c 'echo x >/tmp/x' 2>/dev/null && fail "the root is writable"
equal x inside "$web" sh -c 'echo x >/data/x; cat /data/x'

claim "environment, Secrets, ConfigMaps and service account tokens are there"
equal "secret ${web#pod/}" inside "$web" sh -c 'echo $PASSWORD $POD'
equal secret inside "$web" cat /etc/password/password
equal "test" inside "$web" cat /var/run/secrets/kubernetes.io/serviceaccount/namespace

claim "a changed ConfigMap reaches a running pod in seconds"
equal old inside "$web" cat /etc/flags/flag
k patch configmap -n test flags -p '{"data":{"flag":"new"}}' >/dev/null
eventually 8 new inside "$web" cat /etc/flags/flag

claim "a Service reaches all ready pods in turn, by name and by address, from pods and from outside"
equal "2 2 2" visits http://web/ 6
equal "2 2 2" visits "http://$(k get svc -n test web -o 'jsonpath={.spec.clusterIP}')/" 6
"$kube" forward --dir "$cluster" web.test.svc.cluster.local:80 >"$work/forward" &
forward=$!
eventually 5 127.0.0.1: cat "$work/forward"
for _ in 1 2 3; do "$work/testserver" get "http://$(cat "$work/forward")/"; done >"$work/answers"
equal 3 sh -c "sort -u '$work/answers' | wc -l"
kill "$forward"
forward=

claim "a pod that is not ready gets no connections"
inside "$web" testserver get http://127.0.0.1:8080/unready
eventually 10 "3 3" visits http://web/ 6
inside "$web" testserver get http://127.0.0.1:8080/reready
eventually 10 "2 2 2" visits http://web/ 6

claim "a Service without ready pods refuses connections"
eventually 5 "connection refused" inside "$web" testserver get http://nobody/

claim "DNS knows Services, pods of headless Services, and nothing else"
equal store-1 inside "$web" testserver get http://store-1.store.test.svc.cluster.local:8080/
equal 2 inside "$web" testserver lookup store
eventually 5 "no such host" inside "$web" testserver get http://store-7.store:8080/
eventually 5 "no such host" inside "$web" testserver get http://example.com/

claim "the API server is reachable from pods"
eventually 5 "certificate signed by unknown authority" inside "$web" testserver get https://kubernetes.default/

claim "port-forward works"
"$kube" kubectl port-forward -n test "$web" :8080 >"$work/port" 2>&1 &
forward=$!
eventually 10 "Forwarding from 127.0.0.1" cat "$work/port"
port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\).*/\1/p' "$work/port")
equal "${web#pod/}" "$work/testserver" get "http://127.0.0.1:$port/"
kill "$forward"
forward=

claim "a program that ends is started again, and its log is kept"
store=$(pods store | head -n 1)
"$kube" kubectl logs -n test -f "$store" >"$work/followed" &
inside "$store" testserver get http://127.0.0.1:8080/exit/3 >/dev/null 2>&1 || true
eventually 10 "exiting with 3" k logs -n test --previous "$store"
eventually 5 "exiting with 3" cat "$work/followed"
eventually 10 '"exitCode":3' k get -n test "$store" -o 'jsonpath={.status.containerStatuses[0].lastState}'
eventually 20 true k get -n test "$store" -o 'jsonpath={.status.containerStatuses[0].ready}'
inside "$store" testserver get http://127.0.0.1:8080/exit/3 >/dev/null 2>&1 || true
eventually 10 CrashLoopBackOff k get -n test "$store"

claim "a program that ignores SIGTERM is killed after its grace period"
eventually 10 serving k logs -n test stubborn
"$kube" kubectl logs -n test -f stubborn >"$work/stubborn" 2>&1 &
begin=$(date +%s)
k delete pod -n test stubborn >/dev/null
took=$(($(date +%s) - begin))
[ $took -ge 2 ] && [ $took -le 8 ] || fail "it took $took s"
equal 1 grep -c "received SIGTERM" "$work/stubborn"

claim "preStop hooks run and rolling updates leave a Service reachable"
"$kube" kubectl logs -n test -f "$web" >"$work/hook" 2>&1 &
k set env -n test deploy/web ROUND=2 >/dev/null
k rollout status -n test deploy/web --timeout=60s >/dev/null
eventually 20 stopping cat "$work/hook"
web=$(pods web | head -n 1)
eventually 20 "2 2 2" visits http://web/ 6

claim "disruption budgets and autoscalers are followed"
eventually 20 1 k get pdb -n test web -o 'jsonpath={.status.disruptionsAllowed}'
eventually 40 AbleToScale k get hpa -n test web -o 'jsonpath={.status.conditions[*].type}'

claim "what owned objects own is deleted with them, and so are namespaces"
k delete deploy -n test web >/dev/null
eventually 40 "No resources found" k get rs,pods -n test -l app=web
k delete namespace test --timeout=60s >/dev/null

claim "a control plane without a node needs no namespaces, and runs beside"
"$kube" up --dir "$work/plane" --no-node --detach >/dev/null
equal default k --kubeconfig "$work/plane/kubeconfig" get ns default -o 'jsonpath={.metadata.name}'

claim "a cluster whose API server dies ends with an error"
kill -KILL "$(child "$(cat "$work/plane/pid")" kube-apiserver)"
eventually 10 "kube-apiserver ended" cat "$work/plane/logs/up.log"

claim "nothing is left when a cluster has ended"
pid=$(cat "$cluster/pid")
"$kube" down --dir "$cluster"
if grep -qs up "/proc/$pid/cmdline"; then fail "process $pid is left"; fi
printf '%s/' "$cluster" >"$work/path"
left=$(grep -lsf "$work/path" /proc/[0-9]*/cmdline || true)
[ -z "$left" ] || fail "processes are left: $left"
"$kube" down --dir "$cluster"

echo "all claims are true"
