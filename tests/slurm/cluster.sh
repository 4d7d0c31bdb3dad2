#!/usr/bin/env bash
# A real Slurm of two virtual nodes on this machine: controller, one slurmd a node, its own munged. Needs root and the
# packages slurm-wlm and munge, no systemd. Everything lives in one folder; a Slurm that is installed here is not touched.
#
#   tests/slurm/cluster.sh start DIR     then: export SLURM_CONF=DIR/slurm.conf
#   tests/slurm/cluster.sh stop DIR
#
# Each node has its own host name, /etc/hosts and /dev/shm (namespaces), so that Open MPI takes them for two machines.
set -euo pipefail

nodes=${NODES:-2}
cpus=${CPUS:-4} # a node offers so many, whatever the machine has
gpus=${CARDS:-2}
folder=${2:?usage: cluster.sh start|stop DIR}

# Ends a daemon of ours and waits until it is gone.
end() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null || return 0
  for _ in {1..50}; do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
}

stop() {
  for file in "$folder"/pid/n*.pid "$folder"/pid/ctld.pid "$folder"/pid/munged.pid; do end "$file"; done
}

# A run of free ports; the controller takes the first, the nodes those after it.
free_ports() {
  local base port
  for base in $(seq $((20000 + $$ % 10000)) 50 60000); do
    for port in $(seq "$base" $((base + nodes))); do
      (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
    done
    echo "$base"
    return
  done
}

configure() {
  local host port memory
  host=$(hostname -s)
  port=$(free_ports)
  memory=$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)
  cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
TmpFS=$folder/tmp.%n
SlurmctldPidFile=$folder/pid/ctld.pid
SlurmdPidFile=$folder/pid/%n.pid
SlurmctldLogFile=$folder/log/ctld.log
SlurmdLogFile=$folder/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
KillWait=5
MinJobAge=300
GresTypes=gpu
NodeName=n[1-$nodes] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + nodes))] CPUs=$cpus RealMemory=$memory Gres=gpu:$gpus
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
  # GPUs in name only, so that jobs may ask for them: Slurm counts these files.
  local files=("$folder"/gpu{1..9})
  touch "${files[@]:0:gpus}"
  printf 'NodeName=n[1-%s] Name=gpu File=%s/gpu[1-%s]\n' "$nodes" "$folder" "$gpus" >"$folder/gres.conf"
  printf 'CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n' >"$folder/cgroup.conf"
  { cat /etc/hosts; for i in $(seq "$nodes"); do echo "127.0.0.1 n$i"; done; } >"$folder/hosts"
}

start() {
  mkdir -p "$folder"/{state,log,pid,munge}
  chmod 755 "$folder" "$folder"/{log,pid,munge}
  for i in $(seq "$nodes"); do mkdir -p "$folder/spool.n$i" "$folder/tmp.n$i"; done
  configure
  (umask 077; dd if=/dev/urandom of="$folder/munge/key" bs=1 count=1024 status=none)
  munged --socket="$folder/munge/socket" --key-file="$folder/munge/key" --log-file="$folder/log/munged.log" \
    --pid-file="$folder/pid/munged.pid" --seed-file="$folder/munge/seed"
  export SLURM_CONF=$folder/slurm.conf
  slurmctld -c -f "$SLURM_CONF"
  for i in $(seq "$nodes"); do
    unshare --mount --uts bash -c "mount --make-rprivate / && mount -t tmpfs tmpfs /dev/shm &&
      mount --bind '$folder/hosts' /etc/hosts && hostname n$i && exec slurmd -f '$SLURM_CONF' -N n$i"
  done
  for _ in {1..100}; do
    [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" = "$nodes" ] && return
    sleep 0.2
  done
  echo "cluster.sh: the nodes do not come up" >&2
  tail -n 20 "$folder"/log/* >&2
  return 1
}

case $1 in
  start) start || { stop; exit 1; } ;;
  stop) stop ;;
  *) echo "usage: cluster.sh start|stop DIR" >&2; exit 2 ;;
esac
