// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// newStreaming returns the server to which the kubelet sends the streams of exec,
// attach and port-forward.
func newStreaming(r *Runtime) (streaming.Server, error) {
	config := streaming.DefaultConfig
	config.Addr = "127.0.0.1:10010"
	config.BaseURL = &url.URL{Scheme: "http", Host: config.Addr, Path: "/"}
	server, err := streaming.NewServer(config, streamed{r})
	if err != nil {
		return nil, fmt.Errorf("creating the server of streams: %w", err)
	}
	return server, nil
}

// Exec prepares a command in a container and returns the URL of its streams.
func (r *Runtime) Exec(_ context.Context, request *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	if _, err := r.container(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streaming.GetExec(request)
}

// Attach returns the URL of the streams of a container's program.
func (r *Runtime) Attach(_ context.Context, request *runtimeapi.AttachRequest) (*runtimeapi.AttachResponse, error) {
	if _, err := r.container(request.GetContainerId()); err != nil {
		return nil, err
	}
	return r.streaming.GetAttach(request)
}

// PortForward returns the URL of the streams to a pod's ports.
func (r *Runtime) PortForward(_ context.Context, request *runtimeapi.PortForwardRequest) (*runtimeapi.PortForwardResponse, error) {
	if _, err := r.sandbox(request.GetPodSandboxId()); err != nil {
		return nil, err
	}
	return r.streaming.GetPortForward(request)
}

// streamed is the interface of the runtime for the server of streams.
type streamed struct{ runtime *Runtime }

var _ streaming.Runtime = streamed{}

// Exec runs a command with the client's streams or a terminal.
func (s streamed) Exec(ctx context.Context, id string, args []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, err := s.runtime.container(id)
	if err != nil {
		return err
	}
	if !tty {
		return s.runtime.execute(ctx, c, execution{args: args, stdin: in, stdout: writer(out), stderr: writer(errOut)})
	}
	own, theirs, err := c.openTerminal()
	if err != nil {
		return err
	}
	defer own.Close()
	go followSize(own, resize)
	var output sync.WaitGroup
	output.Go(func() { io.Copy(out, own) })
	if in != nil {
		go io.Copy(own, in)
	}
	err = s.runtime.execute(ctx, c, execution{args: args, terminal: theirs})
	theirs.Close()
	output.Wait() // ends when no process has the other end of the terminal open
	return err
}

// writer returns nil for a stream that the client did not request.
func writer(w io.WriteCloser) io.Writer {
	if w == nil {
		return nil
	}
	return w
}

// Attach connects the client to the streams of the container's program, which has no
// terminal.
func (s streamed) Attach(ctx context.Context, id string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize) error {
	c, err := s.runtime.container(id)
	if err != nil {
		return err
	}
	detach := c.log.attach(&attachment{stdout: writer(out), stderr: writer(errOut)})
	defer detach()
	c.mu.Lock()
	input := c.input
	c.mu.Unlock()
	if in != nil && input != nil {
		go func() {
			if _, err := io.Copy(input, in); err == nil && c.config.GetStdinOnce() {
				input.Close()
			}
		}()
	}
	select {
	case <-c.exited:
	case <-ctx.Done():
	}
	return nil
}

// PortForward connects a stream to a port on the pod's loopback address.
func (s streamed) PortForward(_ context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	sandbox, err := s.runtime.sandbox(id)
	if err != nil {
		return err
	}
	connection, err := sandbox.dial(net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
	if err != nil {
		return fmt.Errorf("connecting to port %d of the pod: %w", port, err)
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, stream) // the client may disconnect at any time
		connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}

func (s *sandbox) dial(address string) (net.Conn, error) {
	if s.network == nil {
		return net.Dial("tcp4", address)
	}
	return s.network.Dial(address)
}

// openTerminal returns both ends of a new terminal of the container.
func (c *container) openTerminal() (own, theirs *os.File, err error) {
	process := c.process()
	if process == nil {
		return nil, nil, c.notRunning()
	}
	terminals := "/proc/" + strconv.Itoa(process.Pid) + "/root/dev/pts/"
	own, err = os.OpenFile(terminals+"ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("opening a terminal: %w", err)
	}
	number, err := unix.IoctlGetInt(int(own.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(own.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		theirs, err = os.OpenFile(terminals+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		own.Close()
		return nil, nil, fmt.Errorf("opening the other end of a terminal: %w", err)
	}
	return own, theirs, nil
}

// followSize sets the size of a terminal to that of the client's window until the
// client disconnects.
func followSize(terminal *os.File, sizes <-chan remotecommand.TerminalSize) {
	for size := range sizes {
		window := &unix.Winsize{Row: size.Height, Col: size.Width}
		_ = unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, window) // it may be closed by now
	}
}
