//! A base from the Debian mirror. Needs root and the mirror; takes a minute the first time.

use modal_local::BasePolicy;
use modal_proto::client::DeploymentNamespace;

use crate::harness::{Local, directory, image, image_on, request};

/// What the SDK sends for `debian_slim(python_version="3.11")`.
const DEBIAN_SLIM: &[&str] = &[
    "FROM python:3.11.12-slim-bookworm",
    "RUN apt-get update",
    "RUN apt-get install -y gcc gfortran build-essential",
    "RUN pip install --upgrade pip wheel uv",
    "RUN echo 'debconf debconf/frontend select Noninteractive' | debconf-set-selections",
    "CMD [\"sleep\", \"172800\"]",
];

#[tokio::test]
#[ignore = "needs root and the Debian mirror; makes a base, which takes a minute"]
async fn packages_of_debian_and_of_python_are_installed() {
    let directory = directory();
    let local = Local::start(directory.path(), BasePolicy::Debian).await;
    let mut slim = request(image(DEBIAN_SLIM));
    slim.namespace = DeploymentNamespace::Global.into();
    let slim = local.build_with(slim).await.succeeded();
    assert!(slim.log.contains("making a base of Debian 12"), "{}", slim.log);
    assert!(slim.log.contains("not run, the base stands in"), "{}", slim.log);
    let steps = [
        "RUN uv --version && gcc --version && g++ --version && gfortran --version && curl --version",
        "RUN pip install --no-binary=MarkupSafe MarkupSafe==2.1.5",
        "RUN apt-get update",
        "RUN apt-get install -y ripgrep",
        "RUN python -m pip install six",
        "RUN rg --version && python -c 'import six' && test -z \"$(ls /var/cache/apt/archives/*.deb)\"",
    ];
    local.build(image_on(&slim.id, &steps)).await.succeeded();
    local.server.stop().await;
}
