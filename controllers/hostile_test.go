// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-logr/logr/funcr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/flagcache/flagcache/api/v1alpha1"
	"github.com/flagcache/flagcache/controllers"
	"github.com/flagcache/flagcache/service/printable"
)

// hostileText is longer than the API server accepts in a condition or an event, and
// renames the window of a terminal.
var hostileText = "\x1b]0;pwned\x07\n" + strings.Repeat("k", 80_000)

var _ = Describe("Texts of others", func() {
	It("are escaped and cut in conditions and events", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		s.FlagFiles = &controllers.FlagFiles{Metadata: k8s, Validate: func(context.Context, []byte) ([]string, error) {
			return nil, fmt.Errorf("flag %s is invalid", hostileText)
		}}
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = "{}" })
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) {
			fc.Annotations = map[string]string{v1alpha1.AnnotationReconcileAt: hostileText}
		})
		s.settle(ctx)
		c := s.expect(ctx, v1alpha1.ConditionFlagsValid, metav1.ConditionFalse, v1alpha1.ReasonUnparseable)
		expectPrintable(c.Message, printable.MaxMessage)
		Expect(c.Message).To(And(ContainSubstring(`flag \x1b]0;pwned\a kkk`), HaveSuffix("… (cut)")))
		expectPrintable(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.LastHandledReconcileAt, printable.MaxMessage)
		recorded := s.Events.(*events.FakeRecorder).Events
		Expect(recorded).NotTo(BeEmpty())
		for range len(recorded) {
			// The recorder puts the type and the reason before the note.
			_, rest, _ := strings.Cut(<-recorded, " ")
			_, note, _ := strings.Cut(rest, " ")
			expectPrintable(note, printable.MaxNote)
		}
	})

	It("that the API server rejects do not leave Ready True, and are logged", func(ctx context.Context) {
		s := newStage(ctx)
		s.create(ctx, s.aFlagCache())
		s.ready(ctx)
		s.Client = interceptor.NewClient(s.api, interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				if fc, ok := o.(*v1alpha1.FlagCache); ok && meta.IsStatusConditionFalse(fc.Status.Conditions, v1alpha1.ConditionFlagsValid) {
					return apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("FlagCache").GroupKind(), o.GetName(), nil)
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = "no JSON" })
		var lines []string
		logged := ctrl.LoggerInto(ctx, funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{}))
		Expect(s.reconcile(logged).RequeueAfter).To(Equal(time.Minute))
		c := s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonStatusRejected)
		Expect(c.Message).To(ContainSubstring("is invalid"))
		s.expect(ctx, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonStatusRejected)
		Expect(lines).To(ContainElement(ContainSubstring("the API server rejects it")))

		By("writing nothing more until it is accepted")
		version := get(ctx, s, &v1alpha1.FlagCache{}, "demo").ResourceVersion
		s.reconcile(ctx)
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").ResourceVersion).To(Equal(version))
		edit(ctx, s, &corev1.ConfigMap{}, "demo-flags", func(c *corev1.ConfigMap) { c.Data["flags.json"] = "{}" })
		s.settle(ctx)
		s.expect(ctx, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	})
})

var _ = Describe("The largest object", func() {
	It("that the API server stores is in the contract with tenants", func(ctx context.Context) {
		s := newStage(ctx)
		object := func(size int) client.Object {
			return controllers.Large(&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, GenerateName: "large-"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
			}, size)
		}
		// The names of managed fields take as much as those of the labels.
		Expect(k8s.Create(ctx, object(controllers.MaxObject/3))).To(Succeed())
		err := k8s.Create(ctx, object(controllers.MaxObject))
		Expect(err).To(MatchError(ContainSubstring("request is too large")))
	})
})

var _ = Describe("The report of a load test", func() {
	It("is that of the Job's own pod", func(ctx context.Context) {
		s := newStage(ctx)
		fc := s.aFlagCache()
		fc.Spec.Canary = &v1alpha1.CanarySpec{LoadTest: &v1alpha1.LoadTestSpec{}}
		s.create(ctx, fc)
		s.ready(ctx)
		edit(ctx, s, &v1alpha1.FlagCache{}, "demo", func(fc *v1alpha1.FlagCache) { fc.Spec.Service.Image = "flag-service:v2" })
		s.settle(ctx)
		s.podsAvailable(ctx)
		s.settle(ctx)
		jobs := &batchv1.JobList{}
		Expect(k8s.List(ctx, jobs, client.InNamespace(s.namespace))).To(Succeed())
		Expect(jobs.Items).To(HaveLen(1))
		job := &jobs.Items[0]
		labels := map[string]string{batchv1.ControllerUidLabel: string(job.UID)}
		ended := func(code int32) corev1.PodStatus {
			return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				Name: "load-test", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: hostileText[:2000]}},
			}}}
		}

		By("ignoring a pod that only has its label")
		other := &metav1.ObjectMeta{Name: job.Name, UID: "another"}
		s.pod(ctx, "an-impostor", ownedBy("batch/v1", "Job", other), labels, ended(0))
		s.settle(ctx)
		Expect(get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status.Revisions.Candidate).NotTo(BeEmpty())

		By("believing the Job's own, whose report is escaped")
		s.pod(ctx, "its-own", ownedBy("batch/v1", "Job", job), labels, ended(1))
		s.settle(ctx)
		status := get(ctx, s, &v1alpha1.FlagCache{}, "demo").Status
		Expect(status.Revisions.Rejected).NotTo(BeEmpty())
		rollout := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionRolloutHealthy)
		expectPrintable(rollout.Message, printable.MaxMessage)
		Expect(rollout.Message).To(ContainSubstring("pwned"))
	})
})

// expectPrintable checks that a text is bounded and has no control characters.
func expectPrintable(text string, limit int) {
	GinkgoHelper()
	Expect(len(text)).To(BeNumerically("<=", limit))
	Expect(printable.Text(text, limit)).To(Equal(text))
}
