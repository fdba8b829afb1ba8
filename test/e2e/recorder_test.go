// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/kubernetes"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/test/cluster"
	"github.com/flagcache/flagcache/test/leak"
)

// scope is how much of the cluster a recorder records.
type scope int

const (
	// wholeCluster is all objects, the logs of all containers, and what specs keep.
	wholeCluster scope = iota
	// flagCachesOnly is for further processes beside one that records everything.
	flagCachesOnly
)

// recorder keeps what happens in the cluster during the run.
type recorder struct {
	cluster *cluster.Cluster
	pods    kubernetes.Interface
	cancel  context.CancelFunc
	running sync.WaitGroup
	// objects are nil unless the whole cluster is recorded.
	objects *leak.Recording

	mu sync.Mutex
	// flagCaches are all versions of each FlagCache, by namespace/name.
	flagCaches map[string][]*unstructured.Unstructured
	// judged is how many of the versions were compared with kstatus.
	judged map[string]int
	// logs of containers, by namespace/pod/container and restart.
	logs map[string]*bytes.Buffer
}

func startRecorder(c *cluster.Cluster, what scope) *recorder {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{
		cluster: c, cancel: cancel,
		flagCaches: map[string][]*unstructured.Unstructured{}, judged: map[string]int{},
		logs: map[string]*bytes.Buffer{},
	}
	var err error
	r.pods, err = kubernetes.NewForConfig(c.Config)
	Expect(err).NotTo(HaveOccurred())
	client, err := dynamic.NewForConfig(c.Config)
	Expect(err).NotTo(HaveOccurred())

	informers := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	kept := map[schema.GroupVersionResource]func(context.Context, *unstructured.Unstructured){
		v1alpha1.GroupVersion.WithResource("flagcaches"): r.keepFlagCache,
	}
	if what == wholeCluster {
		r.objects, err = leak.Record(c.Config)
		Expect(err).NotTo(HaveOccurred())
		Expect(os.MkdirAll(filepath.Join(c.Dir, keptDir), 0o700)).To(Succeed())
		kept[corev1.SchemeGroupVersion.WithResource("pods")] = r.keepLogs
	}
	for resource, keep := range kept {
		_, err := informers.ForResource(resource).Informer().AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { keep(ctx, o.(*unstructured.Unstructured)) },
			UpdateFunc: func(_, o any) { keep(ctx, o.(*unstructured.Unstructured)) },
		})
		Expect(err).NotTo(HaveOccurred())
	}
	informers.Start(ctx.Done())
	r.running.Go(func() {
		<-ctx.Done()
		informers.Shutdown()
	})
	return r
}

// stop ends the recording and waits until nothing of it runs.
func (r *recorder) stop() {
	r.cancel()
	r.running.Wait()
	if r.objects != nil {
		r.objects.Stop()
	}
}

func (r *recorder) keepFlagCache(_ context.Context, o *unstructured.Unstructured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := o.GetNamespace() + "/" + o.GetName()
	r.flagCaches[key] = append(r.flagCaches[key], o.DeepCopy())
}

// keepLogs follows the log of each container from its start.
func (r *recorder) keepLogs(ctx context.Context, o *unstructured.Unstructured) {
	pod := &corev1.Pod{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, pod); err != nil {
		panic(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, status := range pod.Status.ContainerStatuses {
		key := fmt.Sprintf("%s/%s/%s/%d", pod.Namespace, pod.Name, status.Name, status.RestartCount)
		if status.State.Running == nil || r.logs[key] != nil {
			continue
		}
		log := &bytes.Buffer{}
		r.logs[key] = log
		r.running.Go(func() { r.follow(ctx, pod, status.Name, log) })
	}
}

func (r *recorder) follow(ctx context.Context, pod *corev1.Pod, container string, log *bytes.Buffer) {
	options := &corev1.PodLogOptions{Container: container, Follow: true}
	stream, err := r.pods.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).Stream(ctx)
	if err != nil {
		fmt.Fprintf(&locked{r, log}, "reading the log: %v\n", err)
		return
	}
	defer stream.Close()
	// The log ends with the container, possibly with an error.
	_, _ = io.Copy(&locked{r, log}, stream)
}

// locked is a buffer under the recorder's lock.
type locked struct {
	r   *recorder
	log *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	return l.log.Write(p)
}

// versions are the versions of a FlagCache, in order, up to the present one: it waits
// until the record, which lags behind the API server, has that.
func (r *recorder) versions(ctx context.Context, fc *v1alpha1.FlagCache) []*unstructured.Unstructured {
	GinkgoHelper()
	present := read(ctx, fc).ResourceVersion
	var versions []*unstructured.Unstructured
	Eventually(ctx, func() []*unstructured.Unstructured {
		versions = r.recorded(fc.Namespace, fc.Name)
		return versions
	}).Should(ContainElement(WithTransform((*unstructured.Unstructured).GetResourceVersion, Equal(present))), "recorded versions")
	return versions
}

// recorded are the versions of a FlagCache that were recorded so far, in order.
func (r *recorder) recorded(namespace, name string) []*unstructured.Unstructured {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.flagCaches[namespace+"/"+name])
}

// lastFlagCaches is the last recorded status of each FlagCache, to explain a failure.
func (r *recorder) lastFlagCaches() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var texts []string
	for key, versions := range r.flagCaches {
		status, err := json.MarshalIndent(versions[len(versions)-1].Object["status"], "", "  ")
		texts = append(texts, fmt.Sprintf("%s: %s%v", key, status, err))
	}
	sort.Strings(texts)
	return strings.Join(texts, "\n")
}

// expectNoSecretLeaked searches everything that the run produced for the values of all
// Secrets: those that the operator generated, and those that the specs gave it.
func (r *recorder) expectNoSecretLeaked() {
	GinkgoHelper()
	texts := r.texts()
	r.expectRecorded(texts)
	found, err := r.objects.Search(texts)
	Expect(err).NotTo(HaveOccurred())
	Expect(leak.Summary(found)).To(BeEmpty(), "secrets appear where they must not")
}

// expectRecorded expects that something of each kind was recorded, unless only some
// specs ran.
func (r *recorder) expectRecorded(texts map[string]string) {
	GinkgoHelper()
	if focused() {
		return
	}
	recorded := map[string]int{}
	recorded["versions of objects"], recorded["secrets"] = r.objects.Size()
	for where, text := range texts {
		what, _, _ := strings.Cut(where, " in ")
		recorded[what] += len(text)
	}
	GinkgoWriter.Println("recorded:", recorded)
	for _, what := range []string{
		"versions of objects", "secrets", "log of manager", "log of flag-service", "log of redis", "log of controller",
		"metrics of the operator", "metrics of flag services", "output of kubectl flagcache explain",
	} {
		Expect(recorded).To(HaveKeyWithValue(what, BeNumerically(">", 0)))
	}
}

// expectNoErrorsLogged expects that the operator lacked no permission and logged no
// error.
func (r *recorder) expectNoErrorsLogged() {
	GinkgoHelper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var errors []string
	for key, log := range r.logs {
		if strings.Contains(key, "/manager/") {
			errors = append(errors, cluster.Errors(log.String())...)
		}
	}
	Expect(errors).To(BeEmpty(), "errors in the operator's log")
}

// texts are all recorded texts that are no objects, by what they are.
func (r *recorder) texts() map[string]string {
	GinkgoHelper()
	texts := map[string]string{}
	for _, dir := range []string{"logs", keptDir} {
		Expect(filepath.WalkDir(filepath.Join(r.cluster.Dir, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			texts[entry.Name()] = string(text)
			return err
		})).To(Succeed())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, log := range r.logs {
		_, container, _ := strings.Cut(strings.SplitN(key, "/", 2)[1], "/")
		container, _, _ = strings.Cut(container, "/")
		texts[fmt.Sprintf("log of %s in %s", container, key)] = log.String()
	}
	return texts
}

// keptDir is the directory of texts that specs keep, in that of the cluster: the specs run
// in several processes.
const keptDir = "kept"

// keep keeps a text that the run produced, for the search of secrets in it: the last one
// of each kind and name.
func keep(what, of, text string) {
	GinkgoHelper()
	Expect(os.WriteFile(filepath.Join(local.Dir, keptDir, what+" in "+of), []byte(text), 0o600)).To(Succeed())
}

func asJSON(o *unstructured.Unstructured) string {
	text, err := o.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return string(text)
}

// focused reports whether only some specs run.
func focused() bool {
	suite, _ := GinkgoConfiguration()
	return len(suite.FocusStrings) > 0
}
