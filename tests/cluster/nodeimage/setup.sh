#!/bin/sh
# Makes a node of kind out of a small Debian: `setup.sh ROOT CONTEXT`, run by mmdebstrap.
set -eu
root=$1 context=$2

cp -a "$context/files/." "$root/"
chown -R 0:0 "$root/kind" "$root/etc/containerd" "$root/etc/systemd/system" "$root/usr/local/bin"
find "$root/kind" "$root/etc/containerd" "$root/etc/systemd/system" "$root/etc/sysctl.d" "$root/etc/default" \
  -type d -exec chmod 755 {} + -o -type f -exec chmod 644 {} +
chmod 755 "$root"/usr/local/bin/* "$root"/usr/bin/kubernetes "$root"/kind/bin/*
ln -s /usr/lib/cni "$root/opt/cni/bin"

chroot "$root" sh -eu <<'NODE'
find /lib/systemd/system/sysinit.target.wants/ -name systemd-tmpfiles-setup.service -delete
rm -f /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
  /lib/systemd/system/sockets.target.wants/*initctl* /lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >>/etc/systemd/journald.conf
ln -sf /usr/lib/systemd/systemd /sbin/init
systemctl enable kubelet.service containerd.service undo-mount-hacks.service
systemctl mask systemd-binfmt.service
mkdir -p /etc/kubernetes/manifests
rm -f /etc/cni/net.d/* /etc/machine-id
ctr oci spec | jq '.hooks.createContainer += [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
  >/etc/containerd/cri-base.json
# Not kind's. A negative score is refused where root lacks CAP_SYS_RESOURCE, and then no pod starts.
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml
# Nor is this. The kubelet refuses the first version of control groups unless it is told not to.
sed -i '/^KUBELET_EXTRA_ARGS=/s/$/ --fail-cgroupv1=false/' /etc/default/kubelet
NODE

# kind's nodes have the images of the components with them. None is unpacked before it is needed.
cp "$context/components.tar" "$root/components.tar"
chroot "$root" sh -eu <<'NODE'
containerd >/var/log/containerd.log 2>&1 &
pid=$!
tries=0
until ctr version >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 100 ] || { cat /var/log/containerd.log >&2; exit 1; }
  sleep 0.1
done
ctr --namespace=k8s.io images import --no-unpack --digests /components.tar >/dev/null
kill "$pid"
wait "$pid" || true
rm -rf /components.tar /var/log/containerd.log /run/containerd
NODE
