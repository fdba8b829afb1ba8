// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0

package ack

import (
	"net"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Tag is an AWS tag.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// SecretKey refers to a key of a Secret in the object's namespace.
type SecretKey struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// States of a ReplicationGroup, status.status.
const (
	GroupCreating     = "creating"
	GroupAvailable    = "available"
	GroupModifying    = "modifying"
	GroupSnapshotting = "snapshotting"
	GroupDeleting     = "deleting"
	GroupCreateFailed = "create-failed"
)

// ReplicationGroup is a primary node and its replicas.
//
// +kubebuilder:object:root=true
type ReplicationGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              ReplicationGroupSpec   `json:"spec"`
	Status            ReplicationGroupStatus `json:"status,omitempty,omitzero"`
}

// ReplicationGroupSpec has every field that ACK would otherwise default: if all are set,
// ACK does not write to the spec.
type ReplicationGroupSpec struct {
	ReplicationGroupID         string     `json:"replicationGroupID"`
	Description                string     `json:"description"`
	Engine                     string     `json:"engine"`
	EngineVersion              string     `json:"engineVersion"`
	CacheNodeType              string     `json:"cacheNodeType"`
	DataTieringEnabled         bool       `json:"dataTieringEnabled,omitempty"`
	NumNodeGroups              int64      `json:"numNodeGroups"`
	ReplicasPerNodeGroup       int64      `json:"replicasPerNodeGroup"`
	AutomaticFailoverEnabled   bool       `json:"automaticFailoverEnabled"`
	MultiAZEnabled             bool       `json:"multiAZEnabled"`
	TransitEncryptionEnabled   bool       `json:"transitEncryptionEnabled"`
	AtRestEncryptionEnabled    bool       `json:"atRestEncryptionEnabled"`
	KMSKeyID                   string     `json:"kmsKeyID,omitempty"`
	AuthToken                  *SecretKey `json:"authToken,omitempty"`
	UserGroupIDs               []string   `json:"userGroupIDs,omitempty"`
	CacheSubnetGroupName       string     `json:"cacheSubnetGroupName,omitempty"`
	CacheParameterGroupName    string     `json:"cacheParameterGroupName"`
	SecurityGroupIDs           []string   `json:"securityGroupIDs,omitempty"`
	SnapshotRetentionLimit     int64      `json:"snapshotRetentionLimit"`
	SnapshotWindow             string     `json:"snapshotWindow"`
	PreferredMaintenanceWindow string     `json:"preferredMaintenanceWindow,omitempty"`
	IPDiscovery                string     `json:"ipDiscovery"`
	NetworkType                string     `json:"networkType"`
	Durability                 string     `json:"durability"`
	Tags                       []Tag      `json:"tags,omitempty"`
}

// ReplicationGroupStatus is the observed state of a ReplicationGroup.
type ReplicationGroupStatus struct {
	Status `json:",inline"`
	// State is status.status as reported by AWS: one of the Group constants, or another.
	State                      string       `json:"status,omitempty"`
	NodeGroups                 []NodeGroup  `json:"nodeGroups,omitempty"`
	MemberClusters             []string     `json:"memberClusters,omitempty"`
	AutomaticFailover          string       `json:"automaticFailover,omitempty"`
	MultiAZ                    string       `json:"multiAZ,omitempty"`
	ReplicationGroupCreateTime *metav1.Time `json:"replicationGroupCreateTime,omitempty"`
	AuthTokenLastModifiedDate  *metav1.Time `json:"authTokenLastModifiedDate,omitempty"`
	Events                     []Event      `json:"events,omitempty"`
}

// NodeGroup is a shard.
type NodeGroup struct {
	NodeGroupID      string            `json:"nodeGroupID,omitempty"`
	Status           string            `json:"status,omitempty"`
	PrimaryEndpoint  *Endpoint         `json:"primaryEndpoint,omitempty"`
	ReaderEndpoint   *Endpoint         `json:"readerEndpoint,omitempty"`
	NodeGroupMembers []NodeGroupMember `json:"nodeGroupMembers,omitempty"`
}

// NodeGroupMember is a node. Its role is that of ACK's last sync, which may be ten hours
// ago.
type NodeGroupMember struct {
	CacheClusterID string    `json:"cacheClusterID,omitempty"`
	CurrentRole    string    `json:"currentRole,omitempty"`
	ReadEndpoint   *Endpoint `json:"readEndpoint,omitempty"`
}

// Endpoint is a host and a port.
type Endpoint struct {
	Address string `json:"address,omitempty"`
	Port    int64  `json:"port,omitempty"`
}

// String returns host:port, "" for a missing endpoint.
func (e *Endpoint) String() string {
	if e == nil || e.Address == "" {
		return ""
	}
	return net.JoinHostPort(e.Address, strconv.FormatInt(e.Port, 10))
}

// Event is an event of AWS.
type Event struct {
	Message string `json:"message,omitempty"`
}

// PrimaryEndpoint returns the endpoint for writes, nil while it is unknown: the node
// groups of a group that is being created have no endpoints.
func (g *ReplicationGroup) PrimaryEndpoint() *Endpoint {
	if len(g.Status.NodeGroups) == 0 || g.Status.NodeGroups[0].PrimaryEndpoint == nil || g.Status.NodeGroups[0].PrimaryEndpoint.Address == "" {
		return nil
	}
	return g.Status.NodeGroups[0].PrimaryEndpoint
}

// ReplicationGroupList is a list of ReplicationGroups.
//
// +kubebuilder:object:root=true
type ReplicationGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []ReplicationGroup `json:"items"`
}

// CacheSubnetGroup lists the subnets of a VPC for the nodes.
//
// +kubebuilder:object:root=true
type CacheSubnetGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              CacheSubnetGroupSpec `json:"spec"`
	Status            CommonStatus         `json:"status,omitempty,omitzero"`
}

// CacheSubnetGroupSpec is the desired state of a CacheSubnetGroup.
type CacheSubnetGroupSpec struct {
	CacheSubnetGroupName        string   `json:"cacheSubnetGroupName"`
	CacheSubnetGroupDescription string   `json:"cacheSubnetGroupDescription"`
	SubnetIDs                   []string `json:"subnetIDs,omitempty"`
	Tags                        []Tag    `json:"tags,omitempty"`
}

// CommonStatus is the status of a kind without further fields in use.
type CommonStatus struct {
	Status `json:",inline"`
}

// CacheSubnetGroupList is a list of CacheSubnetGroups.
//
// +kubebuilder:object:root=true
type CacheSubnetGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []CacheSubnetGroup `json:"items"`
}

// CacheParameterGroup contains parameters of the engine.
//
// +kubebuilder:object:root=true
type CacheParameterGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              CacheParameterGroupSpec `json:"spec"`
	Status            CommonStatus            `json:"status,omitempty,omitzero"`
}

// CacheParameterGroupSpec is the desired state of a CacheParameterGroup.
type CacheParameterGroupSpec struct {
	CacheParameterGroupName   string      `json:"cacheParameterGroupName"`
	CacheParameterGroupFamily string      `json:"cacheParameterGroupFamily"`
	Description               string      `json:"description"`
	ParameterNameValues       []Parameter `json:"parameterNameValues,omitempty"`
	Tags                      []Tag       `json:"tags,omitempty"`
}

// Parameter is a parameter of the engine.
type Parameter struct {
	ParameterName  string `json:"parameterName"`
	ParameterValue string `json:"parameterValue"`
}

// CacheParameterGroupList is a list of CacheParameterGroups.
//
// +kubebuilder:object:root=true
type CacheParameterGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []CacheParameterGroup `json:"items"`
}

// UserActive is status.status of a User or UserGroup that is ready for use.
const UserActive = "active"

// User can authenticate to the replication groups of its UserGroup.
//
// +kubebuilder:object:root=true
type User struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              UserSpec   `json:"spec"`
	Status            UserStatus `json:"status,omitempty,omitzero"`
}

// UserSpec is the desired state of a User.
type UserSpec struct {
	UserID             string              `json:"userID"`
	UserName           string              `json:"userName"`
	Engine             string              `json:"engine"`
	AccessString       string              `json:"accessString"`
	AuthenticationMode *AuthenticationMode `json:"authenticationMode,omitempty"`
	// NoPasswordRequired is set for a user without a password. ACK writes AWS's name for
	// that into authenticationMode.type, which AWS does not accept as input.
	NoPasswordRequired bool        `json:"noPasswordRequired,omitempty"`
	Passwords          []SecretKey `json:"passwords,omitempty"`
	Tags               []Tag       `json:"tags,omitempty"`
}

// AuthenticationMode is how a User authenticates.
type AuthenticationMode struct {
	// Type is iam or password.
	Type string `json:"type"`
	// Passwords of type password.
	Passwords []SecretKey `json:"passwords,omitempty"`
}

// UserStatus is the observed state of a User or a UserGroup.
type UserStatus struct {
	Status `json:",inline"`
	State  string `json:"status,omitempty"`
}

// UserList is a list of Users.
//
// +kubebuilder:object:root=true
type UserList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []User `json:"items"`
}

// UserGroup lists the users of a replication group.
//
// +kubebuilder:object:root=true
type UserGroup struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              UserGroupSpec `json:"spec"`
	Status            UserStatus    `json:"status,omitempty,omitzero"`
}

// UserGroupSpec is the desired state of a UserGroup.
type UserGroupSpec struct {
	UserGroupID string   `json:"userGroupID"`
	Engine      string   `json:"engine"`
	UserIDs     []string `json:"userIDs"`
	Tags        []Tag    `json:"tags,omitempty"`
}

// UserGroupList is a list of UserGroups.
//
// +kubebuilder:object:root=true
type UserGroupList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []UserGroup `json:"items"`
}

// SnapshotAvailable is status.snapshotStatus of a completed Snapshot.
const SnapshotAvailable = "available"

// Snapshot is a backup of a replication group, taken from one of its nodes.
//
// +kubebuilder:object:root=true
type Snapshot struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	Spec              SnapshotSpec   `json:"spec"`
	Status            SnapshotStatus `json:"status,omitempty,omitzero"`
}

// SnapshotSpec is the desired state of a Snapshot.
type SnapshotSpec struct {
	SnapshotName string `json:"snapshotName"`
	// CacheClusterID is the node. AWS accepts the ID of a replication group instead only
	// with cluster mode enabled.
	CacheClusterID string `json:"cacheClusterID"`
	Tags           []Tag  `json:"tags,omitempty"`
}

// SnapshotStatus is the observed state of a Snapshot.
type SnapshotStatus struct {
	Status         `json:",inline"`
	SnapshotStatus string `json:"snapshotStatus,omitempty"`
}

// SnapshotList is a list of Snapshots.
//
// +kubebuilder:object:root=true
type SnapshotList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty,omitzero"`
	Items           []Snapshot `json:"items"`
}

// ACKStatus implements Object.
func (g *ReplicationGroup) ACKStatus() Status { return g.Status.Status }

// ACKStatus implements Object.
func (g *CacheSubnetGroup) ACKStatus() Status { return g.Status.Status }

// ACKStatus implements Object.
func (g *CacheParameterGroup) ACKStatus() Status { return g.Status.Status }

// ACKStatus implements Object.
func (u *User) ACKStatus() Status { return u.Status.Status }

// ACKStatus implements Object.
func (g *UserGroup) ACKStatus() Status { return g.Status.Status }

// ACKStatus implements Object.
func (s *Snapshot) ACKStatus() Status { return s.Status.Status }
