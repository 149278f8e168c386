"""Models: functions from images to named endpoints, and what is put on them."""

from typing import TYPE_CHECKING

from tfxfer._lazy import attach

if TYPE_CHECKING:
    from tfxfer.models import autoencoder as autoencoder
    from tfxfer.models import efficientnet_lite as efficientnet_lite
    from tfxfer.models import efficientnet_lite_sources as efficientnet_lite_sources
    from tfxfer.models import family as family
    from tfxfer.models import heads as heads
    from tfxfer.models import imagenet as imagenet
    from tfxfer.models import mobilenet_v2 as mobilenet_v2
    from tfxfer.models import mobilenet_v2_sources as mobilenet_v2_sources
    from tfxfer.models import network as network
    from tfxfer.models import normalised as normalised
    from tfxfer.models import normalised_sources as normalised_sources
    from tfxfer.models import packaged as packaged
    from tfxfer.models import recognition as recognition
    from tfxfer.models import registry as registry
    from tfxfer.models import resnet as resnet
    from tfxfer.models import resnet_sources as resnet_sources
    from tfxfer.models import sources as sources
    from tfxfer.models import squeezenet as squeezenet
    from tfxfer.models import squeezenet_sources as squeezenet_sources
    from tfxfer.models import vgg as vgg
    from tfxfer.models import vgg_f as vgg_f
    from tfxfer.models import vgg_f_sources as vgg_f_sources
    from tfxfer.models import vgg_sources as vgg_sources
else:
    __getattr__, __dir__ = attach(__name__)
