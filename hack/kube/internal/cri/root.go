// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/flagcache/flagcache/hack/kube/internal/stage"
)

// searchPath is the PATH of containers.
const searchPath = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

// specOf returns the specification of a container.
func (r *Runtime) specOf(c *container) stage.Spec {
	security := c.config.GetLinux().GetSecurityContext()
	spec := stage.Spec{
		Root:         r.rootOf(c.id),
		ReadOnlyRoot: security.GetReadonlyRootfs(),
		Hostname:     c.hostname(),
		Files:        c.files(),
		Links:        links(),
		Args:         c.arguments(),
		Env:          c.environment(),
		Directory:    c.config.GetWorkingDir(),
		User:         r.userOf(c),
		KeepRights:   security.GetPrivileged() && !r.singleUser,
	}
	system, systemLinks := systemMounts()
	for target, link := range systemLinks {
		spec.Links[target] = link
	}
	spec.Mounts = append(system, c.imageMounts()...)
	spec.Mounts = append(spec.Mounts, c.volumeMounts()...)
	return spec
}

func (c *container) hostname() string {
	if name := c.sandbox.config.GetHostname(); name != "" {
		return name
	}
	return "local"
}

func (c *container) arguments() []string {
	command := c.config.GetCommand()
	if len(command) == 0 {
		command = []string{"/usr/local/bin/" + c.executable.Name}
	}
	return append(append([]string{}, command...), c.config.GetArgs()...)
}

// environment is the pod's environment in addition to what images usually set.
func (c *container) environment() []string {
	env := []string{}
	given := map[string]bool{}
	for _, e := range c.config.GetEnvs() {
		given[e.GetKey()] = true
		env = append(env, e.GetKey()+"="+string(e.GetValue()))
	}
	for _, e := range [][2]string{{"PATH", searchPath}, {"HOME", "/home/nonroot"}, {"HOSTNAME", c.hostname()}} {
		if !given[e[0]] {
			env = append(env, e[0]+"="+e[1])
		}
	}
	return env
}

// userOf returns the user of the container's programs.
func (r *Runtime) userOf(c *container) *stage.User {
	if r.singleUser {
		return nil
	}
	security := c.config.GetLinux().GetSecurityContext()
	user := &stage.User{UID: nonroot, GID: nonroot}
	if id := security.GetRunAsUser(); id != nil {
		user.UID = int(id.GetValue())
		if user.UID != nonroot {
			user.GID = 0 // the group of users that are not in /etc/passwd
		}
	}
	if id := security.GetRunAsGroup(); id != nil {
		user.GID = int(id.GetValue())
	}
	for _, group := range security.GetSupplementalGroups() {
		user.Groups = append(user.Groups, int(group))
	}
	return user
}

func (c *container) files() map[string]string {
	return map[string]string{
		"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" +
			"nonroot:x:65532:65532:nonroot:/home/nonroot:/bin/sh\n",
		"/etc/group":         "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n",
		"/etc/nsswitch.conf": "hosts: files dns\n",
		"/etc/hosts":         "127.0.0.1 localhost\n",
		"/etc/hostname":      c.hostname() + "\n",
		"/etc/resolv.conf":   c.sandbox.resolvConf(),
	}
}

func links() map[string]string {
	return map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
		"/dev/stderr": "/proc/self/fd/2", "/dev/ptmx": "pts/ptmx", "/var/run": "/run",
	}
}

// systemMounts are the read-only mounts of this machine's files that programs need:
// libraries, tools and CA certificates. /usr/local is excluded, because it contains the
// image's executable.
func systemMounts() ([]stage.Mount, map[string]string) {
	var mounts []stage.Mount
	links := map[string]string{}
	add := func(name string) {
		info, err := os.Lstat(name)
		if err != nil {
			return // not on this machine
		}
		if info.Mode()&os.ModeSymlink != 0 {
			if target, err := os.Readlink(name); err == nil {
				links[name] = target
			}
			return
		}
		mounts = append(mounts, stage.Mount{Source: name, Target: name, ReadOnly: true})
	}
	for _, name := range []string{
		"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
		"/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime",
	} {
		add(name)
	}
	entries, _ := os.ReadDir("/usr") // a machine without it has nothing to add
	for _, entry := range entries {
		if entry.Name() != "local" {
			add(filepath.Join("/usr", entry.Name()))
		}
	}
	return mounts, links
}

// imageMounts are the mounts of the image's files.
func (c *container) imageMounts() []stage.Mount {
	targets := []string{"/usr/local/bin/" + c.executable.Name}
	// Where it does not hide a directory of the system, as in images made of one file.
	if _, err := os.Lstat("/" + c.executable.Name); errors.Is(err, os.ErrNotExist) {
		targets = append(targets, "/"+c.executable.Name)
	}
	var mounts []stage.Mount
	for _, target := range targets {
		mounts = append(mounts, stage.Mount{Source: c.executable.Path, Target: target, ReadOnly: true})
	}
	return mounts
}

// volumeMounts are the mounts of the pod, outer ones first.
func (c *container) volumeMounts() []stage.Mount {
	var mounts []stage.Mount
	for _, m := range c.config.GetMounts() {
		mounts = append(mounts, stage.Mount{
			Source: m.GetHostPath(), Target: path.Clean(m.GetContainerPath()), ReadOnly: m.GetReadonly(),
		})
	}
	sort.SliceStable(mounts, func(i, j int) bool { return depth(mounts[i].Target) < depth(mounts[j].Target) })
	return mounts
}

func depth(name string) int { return strings.Count(name, "/") }
