"""Floor 3: the spawners, DockerSpawner and KubeSpawner with a service that makes their images."""
