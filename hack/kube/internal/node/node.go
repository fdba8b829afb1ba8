// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/flagcache/flagcache/hack/kube/internal/cri"
	"github.com/flagcache/flagcache/hack/kube/internal/gateway"
	"github.com/flagcache/flagcache/hack/kube/internal/network"
	"github.com/flagcache/flagcache/hack/kube/internal/service"
)

// Program is the kube command that runs a node.
const Program = "node"

// Name is the name of the node.
const Name = "local"

// Executable is the executable that an image consists of.
type Executable = cri.Executable

// Images maps image repositories to executables.
type Images = map[string]Executable

// Config is the configuration of the node.
type Config struct {
	// Directory is the directory for the node's files.
	Directory string
	// Kubelet is the directory for the kubelet's files. Its path must be short, because
	// it contains sockets.
	Kubelet string
	// Kubeconfig is the kubelet's kubeconfig.
	Kubeconfig string
	// ProxyKubeconfig is the kubeconfig of the Service proxy and the DNS.
	ProxyKubeconfig string
	// AdminKubeconfig is used to create the Service of the DNS.
	AdminKubeconfig string
	// GatewaySocket is the path of the gateway's socket.
	GatewaySocket string
	// Images are the images that pods can use.
	Images Images
	// SingleUser is whether only one user ID exists in this user namespace.
	SingleUser bool
}

// Save writes the configuration for Main to read.
func (c Config) Save(path string) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the node's configuration: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("writing the node's configuration: %w", err)
	}
	return nil
}

// Main runs the node; its argument is the file with the configuration. It returns
// when a component of the node fails.
func Main(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s is started by kube up only", Program)
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return fmt.Errorf("reading the node's configuration: %w", err)
	}
	var config Config
	if err := json.Unmarshal(text, &config); err != nil {
		return fmt.Errorf("decoding the node's configuration: %w", err)
	}
	if err := os.MkdirAll(config.Directory, 0o755); err != nil {
		return fmt.Errorf("creating the node's directory: %w", err)
	}
	return run(context.Background(), config)
}

// run runs the components of the node until one fails.
func run(ctx context.Context, config Config) error {
	images := cri.NewImages(config.Directory, config.Images)
	runtime, err := cri.New(filepath.Join(config.Directory, "runtime"), images, network.NewPods(), config.SingleUser)
	if err != nil {
		return err
	}
	services, err := startServices(ctx, config)
	if err != nil {
		return err
	}
	ended := make(chan error)
	part := func(name string, run func(context.Context) error) {
		go func() { ended <- fmt.Errorf("%s ended: %w", name, errors.Join(errors.New("unexpectedly"), run(ctx))) }()
	}
	part("the runtime's streams", runtime.ServeStreams)
	part("the Service proxy", services.proxy.Run)
	part("the DNS", services.dns.Run)
	part("the gateway", func(ctx context.Context) error {
		server := gateway.Server{Resolver: clusterResolver()}
		return server.Serve(ctx, config.GatewaySocket)
	})
	if err := startKubelet(ctx, config, runtime, images); err != nil {
		return err
	}
	return <-ended
}

// services are the components that watch the Services of the cluster.
type services struct {
	proxy *service.Proxy
	dns   *service.DNS
}

func startServices(ctx context.Context, config Config) (*services, error) {
	admin, err := client(config.AdminKubeconfig)
	if err != nil {
		return nil, err
	}
	if err := createDNSService(ctx, admin); err != nil {
		return nil, err
	}
	proxy, err := client(config.ProxyKubeconfig)
	if err != nil {
		return nil, err
	}
	table := service.NewTable(map[string]string{"default/kubernetes:https": network.APIServer})
	if err := table.Follow(ctx, proxy); err != nil {
		return nil, err
	}
	return &services{proxy: service.NewProxy(table), dns: service.NewDNS(table)}, nil
}

// createDNSService creates the Service of the cluster DNS, to reserve its address and
// for consistency with other clusters. It has no endpoints: the node itself responds.
func createDNSService(ctx context.Context, client kubernetes.Interface) error {
	dns := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-dns", Namespace: metav1.NamespaceSystem},
		Spec: corev1.ServiceSpec{
			ClusterIP: network.DNSAddress,
			Ports: []corev1.ServicePort{
				{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
				{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
			},
		},
	}
	_, err := client.CoreV1().Services(dns.Namespace).Create(ctx, dns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating the Service of the DNS: %w", err)
	}
	return nil
}

func client(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 500, 1000
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("creating a client: %w", err)
	}
	return client, nil
}

// clusterResolver resolves names with the cluster DNS instead of this machine's resolver.
func clusterResolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, kind, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, kind, net.JoinHostPort(network.DNSAddress, "53"))
	}}
}
