// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/url"
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
	"github.com/flagcache/flagcache/service/config"
	"github.com/flagcache/flagcache/test/cluster"
)

// scope is how much of the cluster a recorder records.
type scope int

const (
	// wholeCluster is FlagCaches, events, credentials and the logs of all containers.
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

	mu sync.Mutex
	// flagCaches are all versions of each FlagCache, by namespace/name.
	flagCaches map[string][]*unstructured.Unstructured
	// judged is how many of the versions were compared with kstatus.
	judged map[string]int
	events []string
	// logs of containers, by namespace/pod/container and restart.
	logs map[string]*bytes.Buffer
	// credentials, with what they are.
	credentials map[string]string
}

func startRecorder(c *cluster.Cluster, what scope) *recorder {
	GinkgoHelper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &recorder{
		cluster: c, cancel: cancel,
		flagCaches: map[string][]*unstructured.Unstructured{}, judged: map[string]int{},
		logs: map[string]*bytes.Buffer{}, credentials: map[string]string{},
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
		kept[schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}] = r.keepEvent
		kept[corev1.SchemeGroupVersion.WithResource("secrets")] = r.keepSecret
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
}

func (r *recorder) keepFlagCache(_ context.Context, o *unstructured.Unstructured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := o.GetNamespace() + "/" + o.GetName()
	r.flagCaches[key] = append(r.flagCaches[key], o.DeepCopy())
}

func (r *recorder) keepEvent(_ context.Context, o *unstructured.Unstructured) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, asJSON(o))
}

// keepSecret keeps the credentials that must not leak: those that the operator
// generated, and those that the specs gave it.
func (r *recorder) keepSecret(_ context.Context, o *unstructured.Unstructured) {
	secret := &corev1.Secret{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, secret); err != nil {
		panic(err)
	}
	if secret.Labels[v1alpha1.LabelAllow] != v1alpha1.AllowTrue {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range []string{"password", config.IntegrityKey} {
		if value := string(secret.Data[key]); value != "" {
			r.credentials[value] = fmt.Sprintf("%s of Secret %s/%s", key, secret.Namespace, secret.Name)
		}
	}
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

// expectNoCredentialLeaked searches everything that was recorded for credentials.
func (r *recorder) expectNoCredentialLeaked() {
	GinkgoHelper()
	texts := r.texts()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expectRecorded()
	for value, what := range r.credentials {
		for _, form := range []string{value, url.QueryEscape(value), base64.StdEncoding.EncodeToString([]byte(value))} {
			for where, text := range texts {
				Expect(strings.Contains(text, form)).To(BeFalse(), "%s appears in %s", what, where)
			}
		}
	}
}

// expectRecorded expects that something of each kind was recorded, unless only some
// specs ran. The caller holds the lock.
func (r *recorder) expectRecorded() {
	GinkgoHelper()
	if suite, _ := GinkgoConfiguration(); len(suite.FocusStrings) > 0 {
		return
	}
	recorded := map[string]int{"credentials": len(r.credentials), "events": len(r.events), "FlagCaches": len(r.flagCaches)}
	for key, log := range r.logs {
		recorded["logs of "+strings.Split(key, "/")[2]] += log.Len()
	}
	GinkgoWriter.Println("recorded:", recorded)
	for _, what := range []string{"credentials", "events", "FlagCaches", "logs of manager", "logs of flag-service", "logs of redis"} {
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

// texts are all recorded texts, by where they appeared.
func (r *recorder) texts() map[string]string {
	GinkgoHelper()
	texts := map[string]string{}
	parts := filepath.Join(r.cluster.Dir, "logs")
	Expect(filepath.WalkDir(parts, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})).To(Succeed())
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, log := range r.logs {
		texts["the log of "+key] = log.String()
	}
	for key, versions := range r.flagCaches {
		for _, version := range versions {
			texts[fmt.Sprintf("FlagCache %s at version %s", key, version.GetResourceVersion())] = asJSON(version)
		}
	}
	for i, event := range r.events {
		texts[fmt.Sprintf("event %d", i)] = event
	}
	return texts
}

func asJSON(o *unstructured.Unstructured) string {
	text, err := o.MarshalJSON()
	if err != nil {
		panic(err)
	}
	return string(text)
}
